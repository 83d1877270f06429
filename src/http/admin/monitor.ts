// What agents do, what rules found, and the way out of the brake, as operators see them.
import { operatorAction } from '../../audit/events.ts'
import { leafContextOf } from '../../ca/leaf-context.ts'
import type { Finding } from '../../monitor/finding.ts'
import type { MonitorRule } from '../../schema/monitor.ts'
import type { FindingAnswer, MonitorStatusAnswer, RuleAnswer } from '../../schema/monitor-answers.ts'
import { time, wholeList } from './answers.ts'
import type { AdminDeps } from './deps.ts'
import type { Handlers } from './handler.ts'
import { namedRegistration } from './query.ts'

const ruleAnswer = (rule: MonitorRule): RuleAnswer => {
  const { name, when, action, on, dryRun, agents, except, cooldown, ...settings } = rule
  return { name, when, action, on, dryRun, agents, except, cooldownSeconds: cooldown, settings }
}

const findingAnswer = (finding: Finding): FindingAnswer => ({ ...finding, at: time(finding.at) })

const statusAnswer = ({ monitor, rulesFile }: Pick<AdminDeps, 'monitor' | 'rulesFile'>): MonitorStatusAnswer => {
  const { rules, brake } = monitor.rules()
  const { brake: state, ...sizes } = monitor.status()
  return {
    rulesFile,
    rules: rules.length,
    dry: rules.filter(rule => rule.dryRun && rule.action !== 'alert').length,
    brake: {
      ...state,
      windowSeconds: brake.window,
      brakedAt: state.brakedAt === null ? null : time(state.brakedAt),
    },
    ...sizes,
  }
}

type Names =
  | 'activityShow'
  | 'activityTop'
  | 'monitorStatus'
  | 'monitorRules'
  | 'monitorFindings'
  | 'monitorReleaseBrake'

export const monitorHandlers = (deps: AdminDeps): Pick<Handlers, Names> => {
  const { monitor, ledger, clock } = deps
  return {
    activityShow: ({ params: { name }, query: { since } }) => {
      const { name: agent } = namedRegistration(ledger, 'agent', name)
      const uses = monitor.activityOf(agent, Date.parse(since))
      return { agent, since, uses: uses.map(use => ({ ...use, first: time(use.first), last: time(use.last) })) }
    },
    activityTop: ({ query: { limit } }) => {
      const { total, agents, strangers } = monitor.top(limit)
      const { services, ...rates } = total
      return {
        at: time(clock.now()),
        total: rates,
        services: services.slice(0, limit),
        agents: agents.map(agent => ({ ...agent, lastSeen: time(agent.lastSeen) })),
        strangers: strangers.map(each => ({ ...each, first: time(each.first), last: time(each.last) })),
      }
    },
    monitorStatus: () => statusAnswer(deps),
    monitorRules: () => wholeList(monitor.rules().rules.map(ruleAnswer)),
    monitorFindings: ({ query }) => wholeList(monitor.findings(query).map(findingAnswer)),
    monitorReleaseBrake: async ({ body: { why, dryRun }, context }) => {
      if (!dryRun) {
        const facts = { action: 'monitor_release_brake', why }
        await ledger.audit.append([operatorAction(leafContextOf(context, clock.now()), facts)])
        monitor.releaseBrake()
      }
      return statusAnswer(deps)
    },
  }
}
