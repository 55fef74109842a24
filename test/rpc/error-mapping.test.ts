/**
 * The texts and codes that clients of the etcd API match, byte for byte.
 */
import { describe, expect, it } from 'vitest';
import { InvariantError } from '../../src/assert.js';
import { ERROR_TABLE, type ErrorCode, KvError } from '../../src/errors.js';
import {
  DEADLINE_EXCEEDED,
  goStatusText,
  streamErrorBody,
  unaryErrorBody,
  wireError,
} from '../../src/rpc/error-mapping.js';

const EXPECTED: readonly (readonly [ErrorCode, number, number, string])[] = [
  ['NOT_LEADER', 9, 400, 'etcdserver: not leader'],
  ['NO_LEADER', 14, 503, 'etcdserver: no leader'],
  ['LEADER_CHANGED', 14, 503, 'etcdserver: leader changed'],
  ['PROPOSAL_DROPPED', 14, 503, 'etcdserver: leader changed'],
  ['OVERLOADED', 8, 429, 'etcdserver: too many requests'],
  ['STOPPED', 14, 503, 'etcdserver: server stopped'],
  ['TIMEOUT', 14, 503, 'etcdserver: request timed out'],
  ['TIMEOUT_NO_EFFECT', 14, 503, 'etcdserver: request timed out'],
  ['CANCELED', 1, 499, 'etcdserver: request canceled'],
  ['LEARNER', 9, 400, 'etcdserver: rpc not supported for learner'],
  ['BAD_TRANSFEREE', 9, 400, 'etcdserver: bad leader transferee'],
  ['TRANSFER_TIMEOUT', 2, 500, 'etcdserver: request timed out, leader transfer took too long'],
  ['CORRUPT', 15, 500, 'etcdserver: corrupt cluster'],
  ['REQUEST_TOO_LARGE', 3, 400, 'etcdserver: request is too large'],
  ['EMPTY_KEY', 3, 400, 'etcdserver: key is not provided'],
  ['KEY_NOT_FOUND', 3, 400, 'etcdserver: key not found'],
  ['VALUE_PROVIDED', 3, 400, 'etcdserver: value is provided'],
  ['LEASE_PROVIDED', 3, 400, 'etcdserver: lease is provided'],
  ['TOO_MANY_OPERATIONS', 3, 400, 'etcdserver: too many operations in txn request'],
  ['DUPLICATE_KEY', 3, 400, 'etcdserver: duplicate key given in txn request'],
  ['INVALID_SORT_OPTION', 3, 400, 'etcdserver: invalid sort option'],
  ['COMPACTED', 11, 400, 'etcdserver: mvcc: required revision has been compacted'],
  ['FUTURE_REVISION', 11, 400, 'etcdserver: mvcc: required revision is a future revision'],
  ['NO_SPACE', 8, 429, 'etcdserver: mvcc: database space exceeded'],
  ['BAD_VERSION', 3, 400, 'etcdserver: wrong downgrade target version format'],
  ['NO_DOWNGRADE', 3, 400, 'etcdserver: invalid downgrade target version'],
  ['UNKNOWN_ACTION', 2, 500, 'etcdserver: unknown method'],
  ['LEASE_NOT_FOUND', 5, 404, 'etcdserver: requested lease not found'],
  ['LEASE_EXISTS', 9, 400, 'etcdserver: lease already exists'],
  ['LEASE_TTL_TOO_LARGE', 11, 400, 'etcdserver: too large lease TTL'],
  ['NOT_PRIMARY_LESSOR', 2, 500, 'not a primary lessor'],
  ['SESSION_EXPIRED', 2, 500, 'mutex: session is expired'],
  ['ELECTION_NO_LEADER', 2, 500, 'election: no leader'],
  ['ELECTION_NOT_LEADER', 2, 500, 'election: not leader'],
  ['LEADER_KEY_MISSING', 2, 500, '"leader" field must be provided'],
  ['MEMBER_NOT_FOUND', 5, 404, 'etcdserver: member not found'],
  ['MEMBER_EXISTS', 9, 400, 'etcdserver: member ID already exist'],
  ['PEER_URLS_EXIST', 9, 400, 'etcdserver: Peer URLs already exists'],
  ['BAD_MEMBER_URLS', 3, 400, 'etcdserver: given member URLs are invalid'],
  [
    'NOT_ENOUGH_STARTED',
    9,
    400,
    'etcdserver: re-configuration failed due to not enough started members',
  ],
  ['UNHEALTHY', 14, 503, 'etcdserver: unhealthy cluster'],
  ['NOT_A_LEARNER', 9, 400, 'etcdserver: can only promote a learner member'],
  [
    'LEARNER_NOT_READY',
    9,
    400,
    'etcdserver: can only promote a learner member which is in sync with leader',
  ],
  ['TOO_MANY_LEARNERS', 9, 400, 'etcdserver: too many learner members in cluster'],
  ['USER_EMPTY', 3, 400, 'etcdserver: user name is empty'],
  ['AUTH_FAILED', 3, 400, 'etcdserver: authentication failed, invalid user ID or password'],
  ['AUTH_NOT_ENABLED', 9, 400, 'etcdserver: authentication is not enabled'],
  ['AUTH_OLD_REVISION', 3, 400, 'etcdserver: revision of auth store is old'],
  ['INVALID_AUTH_TOKEN', 16, 401, 'etcdserver: invalid auth token'],
  ['PERMISSION_DENIED', 7, 403, 'etcdserver: permission denied'],
  ['PERMISSION_NOT_GIVEN', 3, 400, 'etcdserver: permission not given'],
  ['PERMISSION_NOT_GRANTED', 9, 400, 'etcdserver: permission is not granted to the role'],
  ['INVALID_AUTH_MANAGEMENT', 3, 400, 'etcdserver: invalid auth management'],
  [
    'NO_PASSWORD_USER',
    2,
    500,
    'auth: authentication failed, password was given for no password user',
  ],
  ['ROOT_USER_MISSING', 9, 400, 'etcdserver: root user does not exist'],
  ['ROOT_ROLE_MISSING', 9, 400, 'etcdserver: root user does not have root role'],
  ['USER_EXISTS', 9, 400, 'etcdserver: user name already exists'],
  ['USER_NOT_FOUND', 9, 400, 'etcdserver: user name not found'],
  ['ROLE_EMPTY', 3, 400, 'etcdserver: role name is empty'],
  ['ROLE_EXISTS', 9, 400, 'etcdserver: role name already exists'],
  ['ROLE_NOT_FOUND', 9, 400, 'etcdserver: role name not found'],
  ['ROLE_NOT_GRANTED', 9, 400, 'etcdserver: role is not granted to the user'],
  // These show their own message.
  ['ANSWER_TOO_LARGE', 8, 429, 'the message'],
  ['FOLDER_CHANGED', 9, 400, 'the message'],
  ['CHANGE_REFUSED', 9, 400, 'the message'],
  ['INVALID_ARGUMENT', 3, 400, 'the message'],
  ['UNIMPLEMENTED', 12, 501, 'the message'],
  ['UNKNOWN_SERVICE', 5, 404, 'unknown service'],
  ['CONFIG_INVALID', 13, 500, 'the message'],
];

describe('error mapping', () => {
  it.each(EXPECTED)(
    'gives %s the code %i, the status %i and its text',
    (code, grpc, http, text) => {
      expect(wireError(new KvError(code, 'the message'))).toMatchObject({
        grpcCode: grpc,
        httpStatus: http,
        message: text,
      });
    },
  );

  it('knows every code', () => {
    const listed = EXPECTED.map(([code]) => code).sort();

    expect(listed).toEqual(Object.keys(ERROR_TABLE).sort());
  });

  it('retries are promised only with texts of etcd', () => {
    for (const code of Object.keys(ERROR_TABLE) as ErrorCode[]) {
      const { grpcCode, message } = wireError(new KvError(code, 'own words'));
      if (grpcCode === 14) expect(message).toMatch(/^etcdserver: /);
    }
  });

  it('writes unary bodies with the old and the new field', () => {
    const body = unaryErrorBody(wireError(new KvError('EMPTY_KEY', '')));

    expect(body).toBe(
      '{"error":"etcdserver: key is not provided",' +
        '"message":"etcdserver: key is not provided","code":3}',
    );
  });

  it('escapes what an error quotes', () => {
    const body = unaryErrorBody(wireError(new KvError('INVALID_ARGUMENT', 'a "b"\n\u00e9')));

    expect(JSON.parse(body)).toEqual({ error: 'a "b"\n\u00e9', message: 'a "b"\n\u00e9', code: 3 });
    expect(body).toMatch(/^[\x20-\x7e]*$/);
  });

  it('writes stream bodies with all five fields', () => {
    const body = streamErrorBody(wireError(new KvError('NO_LEADER', '')));

    expect(body).toBe(
      '{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader",' +
        '"http_status":"Service Unavailable","code":14}}',
    );
  });

  it('hides what a bug says', () => {
    const wire = wireError(new InvariantError('commit 17 is above 15'));

    expect(wire).toEqual({
      grpcCode: 13,
      httpStatus: 500,
      message: 'internal error',
      facts: null,
    });
  });

  it('tells a client deadline from a timeout of the server', () => {
    expect(DEADLINE_EXCEEDED).toMatchObject({
      grpcCode: 4,
      httpStatus: 504,
      message: 'context deadline exceeded',
    });
  });

  it('quotes a status as Go does', () => {
    expect(goStatusText(wireError(new KvError('NO_LEADER', '')))).toBe(
      'rpc error: code = Unavailable desc = etcdserver: no leader',
    );
  });
});
