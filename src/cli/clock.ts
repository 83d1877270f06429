// `agentca clock …`: the core refuses to sign after its clock went back or jumped ahead, until a person says that it is right.
import { Command } from 'commander'
import type { ClockAnswer } from '../schema/admin-answers.ts'
import { withDryRun } from './confirmation.ts'
import type { CommandIo } from './io.ts'
import { online } from './online.ts'
import { members, type View, writeOne } from './output.ts'

const clockView: View<ClockAnswer> = {
  columns: members<ClockAnswer>('state', 'now', 'lastSigning', 'detail'),
  name: row => row.state,
}

export const clockCommand = (io: CommandIo): Command =>
  new Command('clock')
    .description('the clock that certificates are dated by')
    .addCommand(
      online(io, new Command('show').description('what the core thinks of its clock'), async ({ client, format }) => {
        const clock = await client.call('clockShow')
        writeOne(io, format, clock, clockView)
        if (clock.state === 'ok') return
        io.setExitCode(7)
        io.err('  hint: set the clock right, or if it is: agentca clock accept\n')
      }),
    )
    .addCommand(
      online<{ readonly why?: string; readonly dryRun?: true }>(
        io,
        withDryRun(
          new Command('accept')
            .description('say that the clock is right now: signing goes on from here')
            .option('--why <text>', 'for the audit log'),
        ),
        async ({ client, options: { why, dryRun }, format }) => {
          const clock = dryRun ? await client.call('clockShow') : await client.call('clockAccept', { body: { why } })
          writeOne(io, format, clock, clockView)
          if (dryRun) io.err('dry run, nothing was accepted\n')
        },
      ),
    )
