/**
 * The schema as descriptors: one file per package, made once, for server reflection.
 *
 * The tables of schema.ts know no packages and no nested enums; where each belongs is written here.
 */
import type { Field } from './field.js';
import { METHODS } from './methods.js';
import { encodeProtobuf } from './protobuf.js';
import { ENUMS, type Encodable, type EnumName, MESSAGES, type MessageName } from './schema.js';

/** Messages that are not of etcdserverpb. */
const PACKAGES: readonly (readonly [RegExp, string])[] = [
  [/^(KeyValue|Event)$/, 'mvccpb'],
  [/^(UserAddOptions|Permission)$/, 'authpb'],
  [/^(Lock|Unlock)(Request|Response)$/, 'v3lockpb'],
  [/^(LeaderKey|(Campaign|Leader|Resign|Proclaim)(Request|Response))$/, 'v3electionpb'],
  [/^HealthCheck/, 'grpc.health.v1'],
];

/** Enums that stand inside a message, and the name that they have there. */
const NESTED: Readonly<Partial<Record<EnumName, readonly [MessageName, string]>>> = {
  SortOrder: ['RangeRequest', 'SortOrder'],
  SortTarget: ['RangeRequest', 'SortTarget'],
  CompareResult: ['Compare', 'CompareResult'],
  CompareTarget: ['Compare', 'CompareTarget'],
  FilterType: ['WatchCreateRequest', 'FilterType'],
  EventType: ['Event', 'EventType'],
  AlarmAction: ['AlarmRequest', 'AlarmAction'],
  DowngradeAction: ['DowngradeRequest', 'DowngradeAction'],
  PermissionType: ['Permission', 'Type'],
  ServingStatus: ['HealthCheckResponse', 'ServingStatus'],
};

/** Numbers of descriptor.proto. */
const TYPES: Readonly<Record<Field['type'], number>> = {
  int64: 3,
  uint64: 4,
  int32: 5,
  bool: 8,
  string: 9,
  message: 11,
  bytes: 12,
  latin1: 12,
  uint32: 13,
  enum: 14,
};
const OPTIONAL = 1;
const REPEATED = 3;

export interface DescribedFile {
  readonly name: string;
  /** Full names of its messages, enums, services and methods. */
  readonly symbols: ReadonlySet<string>;
  readonly dependencies: readonly string[];
  /** Of a FileDescriptorProto. */
  readonly bytes: Buffer;
}

export const SERVICES: readonly string[] = [...new Set(METHODS.map(({ service }) => service))];

export function describeFiles(): readonly DescribedFile[] {
  const packages = new Map<string, MessageName[]>();
  for (const name of messagesInUse()) {
    const list = packages.get(packageOf(name)) ?? [];
    packages.set(packageOf(name), [...list, name]);
  }
  return [...packages].map(([name, messages]) => describeFile(name, messages));
}

/** Those that methods speak, and those within them. */
function messagesInUse(): readonly MessageName[] {
  const found = new Set<MessageName>();
  const add = (name: MessageName): void => {
    if (found.has(name)) return;
    found.add(name);
    for (const { type, of } of Object.values<Field>(MESSAGES[name])) {
      if (type === 'message') add(of as MessageName);
    }
  };
  for (const { service, request, response } of METHODS) {
    if (service.startsWith('grpc.reflection.')) continue;
    add(request);
    add(response);
  }
  return [...found];
}

function describeFile(pack: string, messages: readonly MessageName[]): DescribedFile {
  const symbols = new Set<string>();
  const dependencies = new Set<string>();
  const enums = enumsOf(pack, messages);
  const messageType = messages.map((name) => {
    symbols.add(`${pack}.${name}`);
    return describeMessage(name, (other) => {
      if (packageOf(other) !== pack) dependencies.add(fileName(packageOf(other)));
    });
  });
  const names = SERVICES.filter((service) => service.startsWith(`${pack}.`));
  const service = names.map((name) => {
    symbols.add(name);
    const methods = METHODS.filter((method) => method.service === name);
    for (const method of methods) symbols.add(`${name}.${method.name}`);
    return {
      name: name.slice(pack.length + 1),
      method: methods.map((method) => ({
        name: method.name,
        inputType: fullName(method.request),
        outputType: fullName(method.response),
        clientStreaming: method.requestStream,
        serverStreaming: method.responseStream,
      })),
    };
  });
  const name = fileName(pack);
  const bytes = encodeProtobuf('FileDescriptorProto', {
    ...{ name, package: pack, dependency: [...dependencies], messageType },
    ...{ enumType: enums, service, syntax: 'proto3' },
  });
  return { name, symbols, dependencies: [...dependencies], bytes };
}

function describeMessage(
  name: MessageName,
  onMessage: (other: MessageName) => void,
): Encodable<'DescriptorProto'> {
  const unions: string[] = [];
  const field = Object.entries<Field>(MESSAGES[name]).map(([protoName, each]) => {
    if (each.type === 'message') onMessage(each.of as MessageName);
    if (each.oneof !== null && !unions.includes(each.oneof)) unions.push(each.oneof);
    return {
      name: protoName,
      number: each.number,
      label: each.repeated ? REPEATED : OPTIONAL,
      type: TYPES[each.type],
      typeName: typeName(each),
      oneofIndex: each.oneof === null ? null : unions.indexOf(each.oneof),
    };
  });
  const nested = Object.entries(NESTED).filter(([, [owner]]) => owner === name);
  const enumType = nested.map(([own, [, inside]]) => describeEnum(own as EnumName, inside));
  return { name, field, enumType, oneofDecl: unions.map((union) => ({ name: union })) };
}

/** Enums that stand beside the messages of a package. */
function enumsOf(
  pack: string,
  messages: readonly MessageName[],
): Encodable<'EnumDescriptorProto'>[] {
  const used = new Set<string>();
  for (const name of messages) {
    for (const { of, type } of Object.values<Field>(MESSAGES[name])) {
      if (type === 'enum' && NESTED[of as EnumName] === undefined) used.add(of as string);
    }
  }
  return pack === 'etcdserverpb'
    ? [...used].map((name) => describeEnum(name as EnumName, name))
    : [];
}

function describeEnum(name: EnumName, as: string): Encodable<'EnumDescriptorProto'> {
  return { name: as, value: ENUMS[name].map((value, number) => ({ name: value, number })) };
}

function typeName({ type, of }: Field): string {
  if (type === 'message') return fullName(of as MessageName);
  if (type !== 'enum') return '';
  const nested = NESTED[of as EnumName];
  return nested === undefined ? `.etcdserverpb.${of}` : `${fullName(nested[0])}.${nested[1]}`;
}

function fullName(name: MessageName): string {
  return `.${packageOf(name)}.${name}`;
}

function packageOf(name: MessageName): string {
  return PACKAGES.find(([pattern]) => pattern.test(name))?.[1] ?? 'etcdserverpb';
}

function fileName(pack: string): string {
  return `${pack.replaceAll('.', '/')}.proto`;
}
