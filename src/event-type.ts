/** What a change did to its key, as the API numbers it (EventType of mvccpb). */
export const EventType = { Put: 0, Delete: 1 } as const;
export type EventType = (typeof EventType)[keyof typeof EventType];
