// The rules file: the shipped one is taken, every fault of another is told at once.
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { SchemaError } from '../../src/schema/errors.ts'
import { noRules, parseMonitor } from '../../src/schema/monitor.ts'

const faultsOf = (text: string): readonly string[] => {
  try {
    parseMonitor(text, 'monitor.yaml')
  } catch (error) {
    if (error instanceof SchemaError) return error.faults.map(({ path, problem }) => `${path}: ${problem}`)
    throw error
  }
  return []
}

describe('monitor.yaml', () => {
  it('as it is shipped has rules of its own names, all of them dry', () => {
    const text = readFileSync(new URL('../../ca-config/monitor.yaml', import.meta.url), 'utf8')
    const { rules } = parseMonitor(text, 'monitor.yaml')
    expect(rules.map(rule => rule.name)).toContain('exfiltration')
    expect(rules.filter(rule => !rule.dryRun)).toEqual([])
    // What is commented out is to work when it is not.
    const whole = parseMonitor(text.replaceAll(/^ {2}# /gm, '  '), 'monitor.yaml')
    expect(whole.rules.map(rule => rule.when)).toEqual(expect.arrayContaining(['decoy', 'hours', 'silence']))
    expect(whole.rules.find(rule => rule.name === 'canary')?.dryRun).toBe(false)
  })

  it('may be empty, and a rule may be dry or not whatever the file says', () => {
    expect(noRules.rules).toEqual([])
    const text =
      'dryRun: false\nrules: {a: {when: silence, action: alert}, b: {when: silence, action: alert, dryRun: true}}'
    expect(parseMonitor(text, 'x').rules.map(rule => [rule.name, rule.dryRun])).toEqual([
      ['a', false],
      ['b', true],
    ])
  })

  it('is refused with every fault, each with its place', () => {
    const text = `
brake: {percent: 101, every: 5}
rules:
  Loud: {when: silence, action: alert}
  rate: {when: rate, action: stop}
  wide: {when: denials, action: hold, window: 10m}
  hours: {when: hours, action: hold, from: '25:00', until: '08:00', timezone: Mars/Base}
  decoy: {when: decoy, action: revoke, reason: certificateHold}
  quiet: {when: silence, action: alert, on: instance}
  other: {when: moon, action: alert}
`
    const faults = faultsOf(text)
    for (const path of [
      'brake.percent',
      'brake.every',
      'rules.Loud',
      'rules.rate.action',
      'rules.rate.ceiling',
      'rules.wide.window',
      'rules.hours.from',
      'rules.hours.timezone',
      'rules.decoy.reason',
      'rules.quiet.on',
      'rules.other.when',
    ])
      expect(
        faults.some(fault => fault.startsWith(`${path}: `)),
        `${path} in ${faults.join('\n')}`,
      ).toBe(true)
    expect(faultsOf('rules: {decoy: {when: decoy, action: revoke}}')).toEqual([
      'rules.decoy: expected services, actions or resourceClasses',
    ])
    expect(faultsOf('rules: {a: {when: silence, action: alert}, a: {when: silence, action: alert}}')).toHaveLength(1)
  })
})
