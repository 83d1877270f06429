import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Log, LogFields } from '../../src/base/log.ts'
import { CaError } from '../../src/ca/errors.ts'
import { StoreError } from '../../src/store/errors.ts'
import { createLog, type LogLevel } from '../../src/telemetry/log.ts'

const logged = (write: (log: Log) => void, level: LogLevel = 'debug'): readonly Record<string, unknown>[] => {
  const written: string[] = []
  write(createLog({ level, destination: { write: line => void written.push(line) } }))
  return written
    .join('')
    .split('\n')
    .filter(line => line !== '')
    .map(line => JSON.parse(line))
}
const fieldsOf = (fields: LogFields): Record<string, unknown> => logged(log => log.info(fields, 'm'))[0]!

describe('the log', () => {
  it('is one line of JSON with time, level, process and message', () => {
    const [line, ...more] = logged(log => log.warn({ serial: '01ab' }, 'no signature\n'))
    expect(more).toEqual([])
    expect(line).toEqual({
      level: 'warn',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      pid: process.pid,
      serial: '01ab',
      msg: 'no signature\n',
    })
  })

  it.each<[LogLevel, readonly string[]]>([
    ['debug', ['debug', 'info', 'warn', 'error']],
    ['warn', ['warn', 'error']],
    ['error', ['error']],
  ])('from level %s on', (level, levels) => {
    const lines = logged(log => {
      for (const each of ['debug', 'info', 'warn', 'error'] as const) log[each]({}, each)
    }, level)
    expect(lines.map(line => line.level)).toEqual(levels)
  })

  it('of a child carries its fields, cleaned like all others', () => {
    const [line] = logged(log => log.child({ requestId: 'r1', token: 't' }).child({ part: 'http' }).info({}, 'm'))
    expect(line).toMatchObject({ requestId: 'r1', token: '(secret)', part: 'http' })
  })

  it('reaches a file descriptor before the call returns', () => {
    const directory = mkdtempSync(join(tmpdir(), 'agentca-log-'))
    const path = join(directory, 'log')
    const fd = openSync(path, 'w')
    createLog({ level: 'info', destination: fd }).error({ serial: '01' }, 'written')
    expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({ serial: '01', msg: 'written' })
    closeSync(fd)
    rmSync(directory, { recursive: true })
  })
})

describe('no secret leaves', () => {
  it.each([
    'pin',
    'token',
    'key',
    'Authorization',
    'private_key',
    'hmacKey',
    'password',
    'csr',
    'jws',
    'evidence',
    'body',
    'cookie',
  ])('under the name %s, at any depth, in an error’s facts and causes', name => {
    const cause = new CaError('conflict', 'inner', { facts: { [name]: 'hunter2' } })
    const text = JSON.stringify(
      fieldsOf({
        [name]: 'hunter2',
        deep: { list: [{ [name]: { more: 'hunter2' } }] },
        err: new CaError('conflict', 'outer', { cause, facts: { [name]: 'hunter2', serial: '01' } }),
      }),
    )
    expect(text).not.toContain('hunter2')
    expect(text).toContain('01')
  })

  it('as bytes: of those only the number', () => {
    const der = Buffer.from('hunter2')
    expect(fieldsOf({ der, view: new Uint8Array(der), raw: new ArrayBuffer(3) })).toMatchObject({
      der: '(7 bytes)',
      view: '(7 bytes)',
      raw: '(3 bytes)',
    })
  })

  it('and what only names a secret does', () =>
    expect(fieldsOf({ keyHash: 'ab', keyLabel: 'issuing-1', tokenId: 't1', pinSource: '/run/pin' })).toMatchObject({
      keyHash: 'ab',
      keyLabel: 'issuing-1',
      tokenId: 't1',
      pinSource: '/run/pin',
    }))
})

describe('an error', () => {
  it('that was meant is its code, message, hint and facts, without a stack, causes too', () => {
    const cause = new StoreError('store_failed', 'disk full')
    const err = new CaError('signer_unavailable', 'no signature', {
      cause,
      hint: 'agentca hsm status',
      facts: { n: 1 },
    })
    expect(fieldsOf({ err }).err).toEqual({
      code: 'signer_unavailable',
      message: 'no signature',
      hint: 'agentca hsm status',
      facts: { n: 1 },
      cause: { code: 'store_failed', message: 'disk full' },
    })
  })

  it.each([
    new CaError('internal', 'unexpected'),
    new TypeError('unexpected'),
    Object.assign(new Error('unexpected'), { code: 'EIO' }),
  ])('that nobody meant has its stack: %s', err => {
    expect(fieldsOf({ err }).err).toMatchObject({
      message: 'unexpected',
      stack: expect.stringContaining('log.test.ts'),
    })
  })
})

describe('whatever is logged', () => {
  it('stays short: long texts, long lists, deep and circular values', () => {
    const circle: Record<string, unknown> = {}
    circle.self = circle
    const text = JSON.stringify(fieldsOf({ long: 'x'.repeat(1e6), list: new Array(1e5).fill(1), circle }))
    expect(text.length).toBeLessThan(5_000)
    expect(text).toContain('(1000000 characters)')
    expect(text).toContain('(too deep)')
  })

  it('has a form in JSON: big integers, times, nothing at all', () =>
    expect(fieldsOf({ n: 12n, at: new Date(0), none: null, invalid: new Date(Number.NaN) })).toMatchObject({
      n: '12',
      at: '1970-01-01T00:00:00.000Z',
      none: null,
      invalid: null,
    }))
})
