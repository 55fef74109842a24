/**
 * What the comparisons with etcd take for an id. Written when a member with the id 394c6cd52b, two digits
 * shorter than most, was taken for a difference between kvd and etcd.
 */
import { expect, it } from 'vitest';
import { masked } from './side-by-side.js';

const shown = (out: string): string => masked({ code: 0, out, err: '' }).split('\n')[0] as string;

it.each([
  ['a full id', '8e9e05c52164694d, started', 'ID, started'],
  ['an id of twelve digits', '12e9f1d14f83, started', 'ID, started'],
  ['an id of ten digits', '394c6cd52b, started', 'ID, started'],
  ['an id of six digits', '3d4c6c, started', 'ID, started'],
  ['no hash', 'ADDRESS, 3082394910', 'ADDRESS, 3082394910'],
  ['no word', 'added a leader', 'added a leader'],
])('masks %s', (_, told, masks) => {
  expect(shown(told)).toBe(masks);
});
