// `agentca why AGENT SERVICE [ACTION]`: may it call, and if not, what stands in the way.

import { Command } from 'commander'
import { printable } from '../base/printable.ts'
import type { WhyAnswer, WhyCheck } from '../schema/policy-answers.ts'
import type { CommandIo } from './io.ts'
import { online } from './online.ts'
import { members, type View, writeJson, writeRows } from './output.ts'

const view: View<WhyCheck> = { columns: members<WhyCheck>('check', 'result', 'detail'), name: row => row.check }

const verdicts: Readonly<Record<WhyAnswer['verdict'], string>> = {
  allowed: 'may call',
  refused: 'may not call',
  unsure: 'may call, as far as this CA can tell',
}

export const whyCommand = (io: CommandIo): Command =>
  online<object, [string, string, string | undefined]>(
    io,
    new Command('why')
      .description('one answer from chain, state, policy, feed and freshness: may this agent call that service')
      .argument('<agent>')
      .argument('<service>')
      .argument('[action]', 'VERB or SERVICE:VERB; without it any'),
    async ({ client, format }, agent, service, action) => {
      const query = { agent, service, ...(action === undefined ? {} : { action }) }
      const answer = await client.call('why', { query })
      if (format === 'json') writeJson(io, answer)
      else writeRows(io, format, answer.checks, view)
      const what = answer.action === null ? service : `${service} (${answer.action})`
      io.err(`agent ${agent} ${verdicts[answer.verdict]} ${what}\n`)
      for (const { hint } of answer.checks) if (hint !== null) io.err(`  hint: ${printable(hint)}\n`)
      if (answer.verdict === 'refused') io.setExitCode(5)
      if (answer.verdict === 'unsure') io.setExitCode(10)
    },
  )
