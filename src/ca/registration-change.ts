// One change of one registration, decided under the ledger's lock: the same decision whether it is carried out or only shown.
import type { LeafContext } from '../audit/leaf.ts'
import type { Clock } from '../base/clock.ts'
import { StoreError } from '../store/errors.ts'
import type { BlastRadius, RegistrationChange, RegistrationsPort } from '../store/ports.ts'
import type { LeafDraft, Owner, Registration, RegistrationState, SubjectKind } from '../store/records.ts'
import { CaError } from './errors.ts'
import type { RequestContext } from './issuance.ts'
import { leafContextOf } from './leaf-context.ts'
import { registrationTransitions } from './state-table.ts'

export interface Subject {
  readonly kind: SubjectKind
  readonly name: string
}

/** What every change takes beside its own values. */
export interface ChangeOptions {
  readonly context: RequestContext
  readonly why?: string | undefined
  /** The caller's confirmation: how many certificates and intents it saw. More than that is refused. */
  readonly expected?: number | undefined
  readonly dryRun: boolean
  /** Asked under the ledger's lock, for whoever decided by facts it read before: throws when they no longer hold. */
  readonly still?: (() => void) | undefined
}

export interface ChangeOutcome {
  /** After the change; of a dry run: as it would be. */
  readonly registration: Registration
  readonly radius: BlastRadius
  readonly dryRun: boolean
  /** Of a retirement: positions [first, last] of the audit leaves that its archive covers. */
  readonly archived?: readonly [number, number] | null
}

export interface ChangeCommand {
  readonly subject: Subject
  readonly at: number
  readonly options: ChangeOptions
  /** Pure; throws to refuse. */
  readonly decide: (current: Registration, owner: Owner | null) => RegistrationChange
  readonly leaf: (context: LeafContext, before: Registration, after: Registration, radius: BlastRadius) => LeafDraft
}

export interface ChangeDeps {
  readonly clock: Clock
  readonly registrations: Pick<RegistrationsPort, 'change'>
}

/**
 * For dry runs: a write that goes as far as its decision under the ledger's lock and is then abandoned by a throw, so that nothing of it
 * stays and what is shown is what would have been done.
 */
export const abandonable = async <T>(write: (abandon: (planned: T) => never) => Promise<T>): Promise<T> => {
  const abandoned: { readonly planned: T }[] = []
  try {
    return await write(planned => {
      abandoned.push({ planned })
      throw abandoned
    })
  } catch (error) {
    if (error !== abandoned) throw error
    return abandoned.at(-1)!.planned
  }
}

/** @throws StoreError `radius_changed` */
export const checkExpected = (radius: BlastRadius, expected: number | undefined): void => {
  const found = radius.certificates + radius.intents
  if (expected === undefined || found <= expected) return
  throw new StoreError('radius_changed', `expected at most ${expected} certificates, got ${found}`, {
    facts: { expected, found },
    hint: `look again (--dry-run), then --confirm ${found}`,
  })
}

/** A change that leaves the state as it is revokes nothing; but intents drafted under the old version will not be released. */
const touched = (radius: BlastRadius, from: RegistrationState, to: RegistrationState): BlastRadius =>
  from === to ? { ...radius, instances: 0, certificates: 0, tokens: 0, subscriptions: 0, serials: [] } : radius

/**
 * @throws whatever `decide` throws; StoreError `not_found`, `conflict`, `radius_changed`, `owner_gone`
 */
export const changeRegistration = (deps: ChangeDeps, command: ChangeCommand): Promise<ChangeOutcome> =>
  abandonable(async abandon => {
    const { subject, options, at } = command
    const { before, after, radius } = await deps.registrations.change({
      ...subject,
      at,
      decide: (current, live, owner) => {
        options.still?.()
        const change = command.decide(current, owner)
        const hit = touched(live, current.state, change.state)
        checkExpected(hit, options.expected)
        if (options.dryRun) {
          const registration = { ...current, ...change.set, state: change.state, version: current.version + 1 }
          abandon({ registration, radius: hit, dryRun: true })
        }
        return change
      },
      leaf: (before, after, radius) => command.leaf(leafContextOf(options.context, at), before, after, radius),
    })
    return { registration: after, radius: touched(radius, before.state, after.state), dryRun: false }
  })

/** @throws CaError `conflict` */
export const refuseRetired = ({ kind, name, state }: Registration): void => {
  if (state !== 'retired') return
  throw new CaError('conflict', `${kind} ${name} is retired, which is final`, {
    facts: { state },
    hint: 'register a new name: names are never reused',
  })
}

/** @throws CaError `conflict` for what the state table does not allow */
export const checkTransition = (current: Registration, to: RegistrationState): void => {
  const { kind, name, state } = current
  if (registrationTransitions[state].includes(to)) return
  refuseRetired(current)
  throw new CaError('conflict', `${kind} ${name} is ${state} already`, {
    facts: { state },
    hint: `agentca ${kind} show ${name}`,
  })
}
