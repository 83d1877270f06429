// Parsers of what comes over sockets: event streams, frames, JWS, published state, JSON bodies. What is fed in pieces must say the same as
// what comes at once.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { isAgentCaError } from '../../src/base/errors.ts'
import { createFrameReader, encodeFrame, type Frame } from '../../src/base/frames.ts'
import { decodeSeen, fromCoreLimit, fromFrontLimit, parseFromCore, parseFromFront } from '../../src/front/protocol.ts'
import { parseJson } from '../../src/http/body.ts'
import { parseAcmeKey, readAcmeJws } from '../../src/jws/acme-jws.ts'
import { readCertificateProof } from '../../src/jws/certificate-proof.ts'
import { readProof } from '../../src/jws/verify-proof.ts'
import { parseTokenKeys, readToken } from '../../src/jws/verify-token.ts'
import {
  acknowledgeBody,
  decisionsBody,
  enrolBody,
  parseWith,
  recoverBody,
  renewBody,
} from '../../src/schema/api-bodies.ts'
import { parseRequestHeader } from '../../src/signer/protocol.ts'
import { createEventStreamReader } from '../../src/verify/event-stream.ts'
import { encodeFeedData, encodePosition, type FeedEvent, parseFeedEvent } from '../../src/verify/feed-event.ts'
import { type DeltaFile, readDeltaFile, readSnapshotFile, type SnapshotFile } from '../../src/verify/signed-state.ts'
import { bytesOf, type FuzzTarget, textTarget } from './target.ts'

/** Where a stream is cut: at every byte for short ones. */
const pieces = (bytes: Uint8Array): readonly Uint8Array[] => {
  const size = Math.max(1, Math.ceil(bytes.length / 256))
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size))
}

/** What a reader gave out before it ended, and how it ended. */
const streamed = <T>(parts: readonly Uint8Array[], open: (emit: (each: T) => void) => (chunk: Uint8Array) => void) => {
  const out: T[] = []
  const push = open(each => out.push(each))
  try {
    for (const part of parts) push(part)
  } catch (error) {
    if (!isAgentCaError(error)) throw error
    return { out, refused: error.code }
  }
  return { out, refused: null }
}

const sse = (emit: (event: unknown) => void) => {
  const reader = createEventStreamReader()
  return (chunk: Uint8Array) => {
    for (const event of reader.push(chunk)) emit(event)
  }
}

const headerOf = (header: Frame['header']) => ({
  fromFront: parseFromFront(header),
  fromCore: parseFromCore(header),
  request: parseRequestHeader(header),
})

const frames = (emit: (frame: unknown) => void) =>
  createFrameReader(
    header => Math.max(fromFrontLimit(header), fromCoreLimit(header), 64),
    ({ header, body }) => {
      const { fromFront, ...rest } = headerOf(header)
      const seen = fromFront !== null && 'lengths' in fromFront ? decodeSeen(fromFront, body) : null
      const chain = seen?.chain.map(der => Buffer.from(der).toString('hex')) ?? null
      emit({ header, body: Buffer.from(body).toString('hex'), fromFront, ...rest, chain })
    },
  )

const frame = (header: object, body = ''): Uint8Array => encodeFrame(header, bytesOf(body))
const seen = { connection: 1, source: '127.0.0.1', resumed: false, lengths: [2, 1] }

const position = '0123456789abcdef.7'
const feedEvents: readonly (readonly [name: string, data: object])[] = [
  ['snapshot', { at: 1, part: 1, parts: 1, revoked: [['01ff', 2]], held: [] }],
  ['revoke', { at: 1, by: 'serial', value: '01ff', reason: 'keyCompromise', changes: [['01ff', 2]] }],
  ['hold', { at: 1, by: 'agent', value: 'a', changes: [] }],
  ['release', { at: 1, by: 'agent', value: 'a', changes: [] }],
  [
    'agent',
    {
      at: 1,
      principal: {
        kind: 'agent',
        name: 'a',
        state: 'active',
        version: 1,
        roles: ['r'],
        attributes: { k: 'v' },
        scopes: ['o:r'],
        owner: null,
      },
    },
  ],
  ['policy', { at: 1, version: 1, hash: 'ab' }],
  ['bundle', { at: 1, pem: '' }],
  ['heartbeat', { at: 1, policies: { version: 1, hash: 'ab' } }],
  ['later', { at: 1 }],
]
const feedWords = [
  'snapshot',
  'revoke',
  'hold',
  'release',
  'agent',
  'policy',
  'bundle',
  'heartbeat',
  '"at":',
  '"changes":',
  '"__proto__":',
  'null',
  '[]',
  '{}',
  '-1',
  '1e99',
  '9007199254740993',
]

/** Three lines: name, id, data. */
const feedEvent = (text: string) => {
  const [name = '', id = '', ...data] = text.split('\n')
  return parseFeedEvent(name, id, data.join('\n'))
}

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
const ec = {
  kty: 'EC',
  crv: 'P-256',
  x: '04N0xi21hshy-C06a7VbzWCVhyHqq8Kr0DkzVAN-mLY',
  y: 'UI8exy-C06a7UfyyVpFtMxd0mSnVFhvnQFEhBUv4VEM',
}
const okp = { kty: 'OKP', crv: 'Ed25519', x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo' }
const signature = 'AA'.repeat(43)
const jwsWords = [
  '"alg"',
  '"jwk"',
  '"kid"',
  '"url"',
  '"nonce"',
  '"crit"',
  '"b64"',
  '"x5c"',
  '"kty"',
  'ES256',
  'RS256',
  'none',
  'HS256',
  '"__proto__"',
  '.',
  '..',
  '=',
]

const acmeJws = (header: object): string =>
  JSON.stringify({
    protected: encode({ alg: 'ES256', nonce: 'n', url: 'https://ca/acme/x', ...header }),
    payload: encode({ a: 1 }),
    signature,
  })

/** Header and payload as JSON in two lines, so that mutations reach what stands inside base64. */
const compact = (text: string): string => {
  const [header = '', ...payload] = text.split('\n')
  return [header, payload.join('\n')]
    .map(each => Buffer.from(each).toString('base64url'))
    .concat(signature)
    .join('.')
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
const epoch = '0123456789abcdef'
const line = (event: string, n: number, data: object) => JSON.stringify({ event, id: `${epoch}.${n}`, data })

const bodies = { enrolBody, renewBody, recoverBody, acknowledgeBody, decisionsBody }

export const wireTargets: readonly FuzzTarget[] = [
  {
    name: 'event-stream',
    form: 'text',
    maxLength: 4096,
    seeds: () =>
      [
        'event: revoke\nid: e.1\ndata: {}\n\n',
        ': comment\n\ndata: a\ndata: b\r\n\r\n',
        'data\rid:1\r\r',
        '\u00e4: \ufeff\n\n',
      ].map(bytesOf),
    words: ['event:', 'data:', 'id:', 'retry:', '\n\n', '\r\n', '\r', ': '],
    read: bytes => {
      const whole = streamed([bytes], sse)
      // Bytes that are no text end a stream where they are met: what came before them in one piece is not given out.
      const cut = streamed(pieces(bytes), sse)
      assert.equal(cut.refused, whole.refused)
      if (whole.refused === null) assert.deepEqual(cut.out, whole.out)
      return whole
    },
  },
  {
    name: 'frames',
    form: 'binary',
    maxLength: 4096,
    seeds: () => [
      frame({ t: 'hello', version: 1, secret: 's', for: 'stream', ...seen }, 'abc'),
      frame({ t: 'open', ...seen }, 'abc'),
      Buffer.concat([frame({ t: 'call', id: 1, connection: 1, path: '/x' }, '{}'), frame({ t: 'ping' })]),
      frame({ t: 'answer', id: 1, status: 200, headers: ['a', 'b'] }, 'x'),
      frame({ id: 1, op: 'sign', purpose: 'leaf', key: 'k', priority: 'renew', deadlineMs: 5 }, 'x'),
    ],
    words: ['"t":', '"lengths":', '[]', '{}', '-1', '1e308', '"__proto__":', 'null'],
    read: bytes => {
      const whole = streamed([bytes], frames)
      assert.deepEqual(streamed(pieces(bytes), frames), whole)
      return whole
    },
  },
  textTarget({
    name: 'feed-event',
    seeds: feedEvents.map(([name, data]) => `${name}\n${position}\n${JSON.stringify(data)}`),
    words: feedWords,
    read: feedEvent,
    write: {
      exact: false,
      // The form of a type that is not known yet is not known either: what is kept of it is its name.
      of: (event: FeedEvent) =>
        event.type === 'unknown'
          ? `${event.name}\n${encodePosition(event.position)}\n${JSON.stringify({ at: event.at })}`
          : `${event.type}\n${encodePosition(event.position)}\n${encodeFeedData(event)}`,
    },
  }),
  {
    name: 'published-state',
    form: 'text',
    maxLength: 4096,
    seeds: () =>
      [
        `${line('snapshot', 7, feedEvents[0]![1])}\n`,
        `${line('revoke', 6, feedEvents[1]![1])}\n${line('hold', 7, feedEvents[2]![1])}\n`,
      ].map(bytesOf),
    words: [...feedWords, '\n', '"event":', '"id":', '"data":'],
    // The head would name them by their hashes: here everything has the right one.
    read: bytes => {
      const file = { name: 'x', sha256: sha256(bytes), bytes: bytes.length }
      const readings = [
        () => [...readSnapshotFile(bytes, { ...file, n: 7 } satisfies SnapshotFile, epoch)],
        () => [...readDeltaFile(bytes, { ...file, from: 5, to: 7 } satisfies DeltaFile, epoch)],
      ]
      return readings.map(read => {
        try {
          return read()
        } catch (error) {
          if (isAgentCaError(error)) return error.code
          throw error
        }
      })
    },
  },
  textTarget({
    name: 'acme-jws',
    seeds: [acmeJws({ jwk: ec }), acmeJws({ kid: 'https://ca/acme/account/1' })],
    words: [...jwsWords, '"protected"', '"payload"', '"signature"', '"header"', '"signatures"'],
    read: async text => {
      const { header, jws } = readAcmeJws(new Uint8Array(Buffer.from(text)))
      return { header, jws, key: header.jwk === undefined ? null : await parseAcmeKey(header.jwk) }
    },
  }),
  textTarget({
    name: 'acme-key',
    seeds: [ec, okp, { kty: 'RSA', n: 'AQAB', e: 'AQAB' }].map(each => JSON.stringify(each)),
    words: [
      '"kty"',
      '"crv"',
      '"x"',
      '"y"',
      '"n"',
      '"e"',
      '"d"',
      'P-384',
      'RSA',
      'OKP',
      'null',
      '"__proto__"',
      'constructor',
    ],
    read: text => parseAcmeKey(parseJson(new Uint8Array(Buffer.from(text)))),
  }),
  textTarget({
    name: 'proof-jws',
    seeds: [
      { alg: 'ES256', jwk: ec },
      { alg: 'EdDSA', jwk: okp },
      { alg: 'ES256', x5c: ['MAA='] },
    ].map(header => `${JSON.stringify(header)}\n${JSON.stringify({ csrHash: 'x', aud: 'y', iat: 1, jti: 'z' })}`),
    words: jwsWords,
    read: text =>
      [text, compact(text)].flatMap(jws =>
        [readProof, readCertificateProof].map(read => {
          try {
            return read(jws)
          } catch (error) {
            if (isAgentCaError(error)) return error.code
            throw error
          }
        }),
      ),
  }),
  textTarget({
    name: 'token',
    seeds: [`{"alg":"RS256","kid":"k"}\n{"iss":"i","aud":["a"],"exp":2,"iat":1}`, '{"alg":"none"}\n{}'],
    words: [...jwsWords, '"iss"', '"aud"', '"exp"', '"iat"', '"nbf"', '"cnf"'],
    read: text => readToken(compact(text)),
  }),
  textTarget({
    name: 'jwk-set',
    seeds: [
      JSON.stringify({
        keys: [{ ...ec, use: 'sig', kid: 'k', alg: 'ES256' }, { ...okp, key_ops: ['verify'] }, { kty: 'oct' }],
      }),
    ],
    words: ['"keys"', '"kty"', '"use"', '"key_ops"', '"kid"', '"alg"', 'null', '{}', '[]'],
    read: text => parseTokenKeys(parseJson(new Uint8Array(Buffer.from(text)))),
  }),
  textTarget({
    name: 'json-body',
    seeds: [
      { csr: 'MAA=', evidence: { type: 'token', token: 't' } },
      { csr: 'MAA=', evidence: { type: 'jwt', jwt: 'j' }, idempotencyKey: 'k' },
      { csr: 'MAA=', jws: 'a.b.c' },
      { id: position, subscriber: 'billing/1' },
    ].map(each => JSON.stringify(each)),
    words: [
      '"csr"',
      '"evidence"',
      '"type"',
      '"token"',
      '"jws"',
      '"__proto__"',
      '"constructor"',
      '\\ud800',
      '1e999',
      '\u2028',
    ],
    read: text => {
      const value = parseJson(new Uint8Array(Buffer.from(text)))
      return Object.entries(bodies).map(([name, schema]) => {
        try {
          return parseWith(schema, value, name)
        } catch (error) {
          if (isAgentCaError(error)) return error.code
          throw error
        }
      })
    },
  }),
]
