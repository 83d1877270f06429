// What a reload of the profiles would take from registrations that use it. Such a reload is refused: whoever is registered under a
// profile that is gone could not renew any more, and would find out one by one, as their certificates end.
import type { ProfileBook } from '../policy/profile-book.ts'
import { type Fault, SchemaError } from '../schema/errors.ts'
import type { RegistrationsPort } from '../store/ports.ts'
import type { Registration, SubjectKind } from '../store/records.ts'

const kinds: readonly SubjectKind[] = ['agent', 'service', 'operator']
const states = ['active', 'held'] as const

/** Names in a message; how many there are is counted up to the bound of a list. */
const shown = 10
const counted = 1000

const usersOf = (registrations: Pick<RegistrationsPort, 'list'>, profile: string, kind: SubjectKind) =>
  states.flatMap(state => registrations.list({ kind, profile, state, limit: counted }))

const namesOf = (users: readonly Registration[]): string => {
  const names = users.slice(0, shown).map(({ kind, name }) => `${kind} ${name}`)
  const more = users.length - names.length
  return `${names.join(', ')}${more === 0 ? '' : ` and ${more}${users.length < counted ? '' : ' or more'} others`}`
}

/**
 * @param source the directory, in messages
 * @throws SchemaError naming every profile that is gone, or is of another kind now, and who uses it
 */
export const checkProfilesInUse = (
  registrations: Pick<RegistrationsPort, 'list'>,
  { before, after, source }: { readonly before: ProfileBook; readonly after: ProfileBook; readonly source: string },
): void => {
  const present = new Map(after.list().map(({ name, kind }) => [name, kind]))
  const lost = before.list().filter(({ name, kind }) => present.get(name) !== kind)
  const faults = lost.flatMap(({ name }): readonly Fault[] => {
    const users = kinds.filter(kind => kind !== present.get(name)).flatMap(kind => usersOf(registrations, name, kind))
    if (users.length === 0) return []
    const what = present.has(name) ? `is for kind ${present.get(name)} now` : 'is gone'
    return [{ path: `${name}.yaml`, problem: `this profile ${what}, but ${namesOf(users)} use it` }]
  })
  if (faults.length === 0) return
  throw new SchemaError(source, faults, {
    hint: 'put the file back, or move each of them first: agentca agent update NAME --profile OTHER (agentca profile list)',
  })
}
