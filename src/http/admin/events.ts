// Events that leave this CA: how far each sink has got, and a test event to all of them.
import { operatorAction } from '../../audit/events.ts'
import { leafContextOf } from '../../ca/leaf-context.ts'
import type { PumpStatus } from '../../events/pump.ts'
import type { EventSinkAnswer } from '../../schema/event-answers.ts'
import { time, wholeList } from './answers.ts'
import type { AdminDeps } from './deps.ts'
import type { Handlers } from './handler.ts'

const sinkAnswer = ({ deliveredAt, ...status }: PumpStatus): EventSinkAnswer => ({
  ...status,
  deliveredAt: deliveredAt === null ? null : time(deliveredAt),
})

export const eventHandlers = ({ events, clock }: AdminDeps): Pick<Handlers, 'eventsStatus' | 'eventsTest'> => ({
  eventsStatus: () => wholeList(events.status().map(sinkAnswer)),
  eventsTest: async ({ body: { waitMs, dryRun }, context }) => {
    if (dryRun) return { items: events.status().map(({ sink }) => ({ sink, delivered: false, error: null })), dryRun }
    const leaf = operatorAction(leafContextOf(context, clock.now()), { action: 'events_test' })
    return { items: await events.test(leaf, waitMs), dryRun }
  },
})
