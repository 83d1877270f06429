// The owners of declarative files: made before what is theirs, and removed, where pruning is asked for, once nothing is.
import type { RegistrationAnswer } from '../schema/admin-answers.ts'
import type { Declared } from '../schema/apply.ts'
import type { OwnerAnswer } from '../schema/owner-api.ts'
import { faultOf, type Planned, type PlannedChange, type Planner, type Step } from './apply-step.ts'

type Owners = ReadonlyMap<string, OwnerAnswer>

export const planOwner = async (
  { client, options }: Planner,
  declared: Declared,
  name: string,
  owners: Owners,
): Promise<Planned> => {
  const { file, line } = declared
  const refuse = (problem: string): Planned => ({ step: null, fault: { file, line, path: 'name', problem } })
  const present = owners.get(name)
  if (present?.state === 'gone') return refuse(`owner ${name} is gone`)
  const other = present?.managedBy ?? null
  if (other !== null && other !== options.set && !options.takeOver)
    return refuse(`owner ${name} belongs to set ${other}: apply it there, or take it over with --set and --take-over`)
  const changes: readonly PlannedChange[] =
    options.set === null || other === options.set ? [] : [{ member: 'managedBy', from: other, to: options.set }]
  const planned = { kind: 'owner', name, file, line, changes, radius: null } as const
  if (present !== undefined && changes.length === 0)
    return { step: { planned: { ...planned, action: 'keep' }, run: null }, fault: null }
  const create = (dryRun: boolean) =>
    client.call('ownersCreate', { body: { name, managedBy: options.set ?? undefined, dryRun } })
  const update = (dryRun: boolean) =>
    client.call('ownersUpdate', { params: { name }, body: { managedBy: options.set, why: options.why, dryRun } })
  const act = present === undefined ? create : update
  const fault = await faultOf(declared, () => act(true))
  const action = present === undefined ? 'create' : 'update'
  return { step: { planned: { ...planned, action }, run: () => act(false) }, fault }
}

/** Whose everything is once the files are applied. */
const ownersNamed = (declared: readonly Declared[], staying: readonly RegistrationAnswer[]): ReadonlySet<string> => {
  const said = new Map<string, string | undefined>()
  for (const { document } of declared)
    if (document.kind === 'Agent' || document.kind === 'Service')
      said.set(`${document.kind.toLowerCase()} ${document.name}`, document.owner)
  const kept = staying.map(({ kind, name, owner }) => said.get(`${kind} ${name}`) ?? owner)
  return new Set([...said.values(), ...kept].filter(owner => owner != null))
}

/**
 * Those of the set that the files neither declare nor name and that nothing is registered to, once what the same apply retires is.
 * @param present the agents and services that are not retired
 * @param isRetiring what the same apply retires
 */
export const planOwnersPruning = (
  { io, client, options }: Planner,
  declared: readonly Declared[],
  owners: Owners,
  present: readonly RegistrationAnswer[],
  isRetiring: (registration: RegistrationAnswer) => boolean,
): readonly Step[] => {
  const named = new Set(declared.flatMap(({ document }) => (document.kind === 'Owner' ? [document.name] : [])))
  const needed = ownersNamed(
    declared,
    present.filter(each => !isRetiring(each)),
  )
  const steps: Step[] = []
  for (const { name, managedBy, state, registrations } of owners.values()) {
    if (managedBy !== options.set || state === 'gone' || named.has(name)) continue
    // What is theirs beside agents and services: operators, whom no file declares.
    const operators = registrations - present.filter(({ owner }) => owner === name).length
    if (needed.has(name) || operators > 0) {
      io.err(`owner ${name} is declared no more and stays: something is registered to it\n`)
      continue
    }
    steps.push({
      planned: { action: 'remove', kind: 'owner', name, file: null, line: null, changes: [], radius: null },
      run: () => client.call('ownersRemove', { params: { name }, body: { why: options.why } }),
    })
  }
  return steps
}
