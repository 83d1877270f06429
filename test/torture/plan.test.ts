// What a torture plays is told by its seed alone, and its arguments are read strictly. That the kills themselves end well is test/story/crash's.
import { describe, expect, it } from 'vitest'
import { parseTortureOptions } from '../../scripts/torture/options.ts'
import { allSteps, createRandom, killText, planKills } from '../story/crash-plan.ts'

const planned = (seed: number, count: number): readonly string[] =>
  [...planKills(createRandom(seed)).take(count)].map(killText)

describe('a plan', () => {
  it('is the same for a seed, and another for another', () => {
    expect(planned(7, 200)).toEqual(planned(7, 200))
    expect(planned(7, 200)).not.toEqual(planned(8, 200))
  })

  it('kills the core and both processes at every numbered step, and the signer around a signature, within its first 60 kills', () => {
    const met = [...planKills(createRandom(1)).take(60)].flatMap(({ ambush }) =>
      'step' in ambush ? [`${ambush.kill} ${ambush.step}`] : [],
    )
    const wanted = allSteps.flatMap(step => [`core ${step}`, `both ${step}`])
    expect([...wanted, 'signer issuance 4', 'signer crl 2'].filter(each => !met.includes(each))).toEqual([])
  })
})

describe('the arguments of npm run torture', () => {
  it('play for an hour, for a number of kills, or until the first of both is over', () => {
    const forever = Number.POSITIVE_INFINITY
    expect(parseTortureOptions([], 5)).toEqual({ minutes: 60, kills: forever, seed: 5 })
    expect(parseTortureOptions(['--kills', '3'], 5)).toEqual({ minutes: forever, kills: 3, seed: 5 })
    expect(parseTortureOptions(['--minutes=0.5', '--kills', '3', '--seed', '9'], 5)).toEqual({
      minutes: 0.5,
      kills: 3,
      seed: 9,
    })
  })

  it.each([
    [['--hours', '1'], 'unknown argument --hours'],
    [['60'], 'unknown argument 60'],
    [['--minutes'], '--minutes is missing its number'],
    [['--kills', '1.5'], '--kills is 1.5, which is no such number'],
    [['--kills', '-1'], '--kills is -1, which is no such number'],
    [['--seed', '4294967296'], '--seed is 4294967296, which is no such number'],
  ])('%s is refused with a reason', (args, reason) => {
    expect(parseTortureOptions(args, 1)).toBe(reason)
  })
})
