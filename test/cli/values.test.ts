// Values as people type them, and exit codes as programs read them.
import fc from 'fast-check'
import { describe, expect, it, test } from 'vitest'
import { AgentCaError } from '../../src/base/errors.ts'
import { CaError } from '../../src/ca/errors.ts'
import { countArgument, pairArgument, parseMoment, secondsArgument } from '../../src/cli/arguments.ts'
import { CliError, exitCodeOfError, ServerRefusal } from '../../src/cli/errors.ts'
import { wantsJson } from '../../src/cli/report.ts'
import { spanText } from '../../src/cli/span.ts'
import { TokenError } from '../../src/signer/errors.ts'

describe('a moment', () => {
  const now = Date.UTC(2026, 10, 24, 12)
  it.each([
    ['2027-01-01', '2027-01-01T00:00:00.000Z'],
    ['2027-01-01T12:30:00Z', '2027-01-01T12:30:00.000Z'],
    ['2027-01-01T12:30:00+02:00', '2027-01-01T10:30:00.000Z'],
    ['30d', '2026-12-24T12:00:00.000Z'],
    ['90s', '2026-11-24T12:01:30.000Z'],
  ])('%s is %s', (text, expected) => expect(parseMoment(text, now)).toBe(expected))

  it.each(['', 'tomorrow', '2027-02-30', '2027-13-01', '2027-01-01T12:30:00', '1.5d', '-1d', '2027', '0d'])(
    '%s is none',
    text => expect(parseMoment(text, now)).toBeNull(),
  )

  test('a duration never lies before now', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9999 }), fc.constantFrom('s', 'm', 'h', 'd'), (count, unit) => {
        expect(Date.parse(parseMoment(`${count}${unit}`, now) as string)).toBe(
          now + secondsArgument(`${count}${unit}`) * 1000,
        )
      }),
    )
  })
})

describe('other values', () => {
  it.each(['', '1', '10 m', '1w', '-5s', '0s'])('%j is no duration', text =>
    expect(() => secondsArgument(text)).toThrow(),
  )
  it.each(['', '1.5', '-1', '1e3', '01', '9999999999'])('%j is no count', text =>
    expect(() => countArgument(text)).toThrow(),
  )
  it('takes pairs apart at their first equals sign, and each key once', () => {
    expect(pairArgument('a=b=c', undefined)).toEqual({ a: 'b=c' })
    expect(pairArgument('b=', { a: '1' })).toEqual({ a: '1', b: '' })
    expect(() => pairArgument('a=2', { a: '1' })).toThrow('twice')
    expect(() => pairArgument('=2', undefined)).toThrow('KEY=VALUE')
  })
})

it.each([
  [0, '0s'],
  [119_000, '119s'],
  [120_000, '2m'],
  [7_199_000, '119m'],
  [7_200_000, '2h'],
  [364.9 * 86_400_000, '364d'],
  [-300_000, '5m ago'],
])('a span of %d ms is %s', (ms, text) => expect(spanText(ms)).toBe(text))

describe('an exit code', () => {
  const refusal = (code: string, status: number): ServerRefusal =>
    new ServerRefusal({ type: '', title: '', status, detail: '', code, requestId: '' })
  it.each<[unknown, number]>([
    [new Error('unforeseen'), 1],
    [new AgentCaError('never_heard_of', ''), 1],
    [new CliError('usage', ''), 2],
    [new CaError('not_found', ''), 3],
    [refusal('role_insufficient', 403), 4],
    [refusal('registration_held', 403), 5],
    [new CaError('confirmation_needed', ''), 6],
    [new CliError('server_not_running', ''), 7],
    [new CliError('verification_failed', ''), 9],
    [new CliError('not_confirmed', ''), 130],
    [new TokenError('pin_wrong', ''), 4],
    [new TokenError('pin_latched', ''), 7],
    // A newer server: its status says what its code would.
    [refusal('code_of_tomorrow', 403), 4],
    [refusal('code_of_tomorrow', 404), 3],
    [refusal('code_of_tomorrow', 409), 6],
    [refusal('code_of_tomorrow', 422), 2],
    [refusal('code_of_tomorrow', 503), 7],
    [refusal('code_of_tomorrow', 500), 1],
  ])('of %o is %i', (error, code) => expect(exitCodeOfError(error)).toBe(code))

  it.each<[string, boolean]>([
    ['agent list -o json', true],
    ['agent list -ojson', true],
    ['agent list --output=jsonl', true],
    ['agent list --output json', true],
    ['agent list -o table', false],
    ['agent show json', false],
  ])('%s wants JSON: %s', (line, wants) => expect(wantsJson(line.split(' '))).toBe(wants))
})
