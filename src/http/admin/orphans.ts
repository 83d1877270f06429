// Orphans: listed with why and what cures each, and ended by somebody who saw how many there are.

import { type OrphanEnd, retiredByDefault } from '../../ca/orphan-watch.ts'
import type { Orphan, OrphanReason } from '../../ca/orphans.ts'
import type { OrphanAnswer, OrphanEndAnswer } from '../../schema/orphan-answers.ts'
import { time } from './answers.ts'
import type { AdminDeps } from './deps.ts'
import type { Handlers } from './handler.ts'

const orphanAnswer = ({ what, kind, name, id, owner, state, reasons, warnedAt, next }: Orphan): OrphanAnswer => ({
  what: what === 'registration' ? kind : what,
  kind,
  name,
  id,
  owner,
  state,
  reasons: reasons.map(({ reason, since, cure, detail }) => ({
    reason,
    since: time(since),
    cure,
    ...(detail === undefined ? {} : { detail }),
  })),
  warnedAt: warnedAt === null ? null : time(warnedAt),
  next: next === null ? null : { act: next.act, at: time(next.at) },
})

const endAnswer = ({ orphan, problem }: OrphanEnd): OrphanEndAnswer => ({ ...orphanAnswer(orphan), problem })

const reasonSet = (reasons: readonly OrphanReason[] | undefined): ReadonlySet<OrphanReason> | null =>
  reasons === undefined || reasons.length === 0 ? null : new Set(reasons)

export const orphanHandlers = ({ orphans }: AdminDeps): Pick<Handlers, 'orphansList' | 'orphansRetire'> => ({
  orphansList: ({ query: { after, limit, reason } }) => {
    const page = orphans.list({
      after: Number(after ?? 0),
      limit,
      reasons: reasonSet(reason === undefined ? [] : [reason]),
    })
    return { items: page.items.map(orphanAnswer), next: page.next === null ? null : String(page.next) }
  },
  orphansRetire: async ({ body: { reasons, why, expected, dryRun }, context }) => {
    const done = await orphans.retire(reasonSet(reasons) ?? retiredByDefault, { context, why, expected, dryRun })
    return { items: done.items.map(endAnswer), more: done.more, dryRun }
  },
})
