// An identity as the daemon shows it, for people and for programs.
import type { Credential } from '../credential.ts'

export interface ShownFacts {
  readonly spiffeId: string
  readonly agent: string
  readonly instance: string
  readonly serial: string
  readonly generation: number
  readonly notAfter: string
  readonly renewAfter: string
  readonly url: string
  readonly dir: string
}

export const factsOf = ({ facts, url }: Credential, dir: string): ShownFacts => ({
  spiffeId: facts.spiffeId,
  agent: facts.agent,
  instance: facts.instance,
  serial: facts.serial,
  generation: facts.generation,
  notAfter: facts.notAfter,
  renewAfter: facts.renewAfter,
  url,
  dir,
})

const units: readonly (readonly [number, string])[] = [
  [86_400, 'd'],
  [3600, 'h'],
  [60, 'min'],
]

/** `in 34 min`, `3 h ago` */
export const relative = (at: number, now: number): string => {
  const seconds = Math.round(Math.abs(at - now) / 1000)
  const [size, unit] = units.find(([least]) => seconds >= least) ?? [1, 's']
  const text = `${Math.floor(seconds / size)} ${unit}`
  return at >= now ? `in ${text}` : `${text} ago`
}

export const fieldsOf = (facts: ShownFacts, now: number): readonly (readonly [string, string])[] => [
  ['identity', facts.spiffeId],
  ['serial', `${facts.serial} (generation ${facts.generation})`],
  ['ends', `${facts.notAfter} (${relative(Date.parse(facts.notAfter), now)})`],
  ['renewal', `${facts.renewAfter} (${relative(Date.parse(facts.renewAfter), now)})`],
  ['CA', facts.url],
  ['directory', facts.dir],
]
