// `agentca hsm …`: the signer process and its token.
import { Command, Option } from 'commander'
import type { HsmKeyAnswer, HsmStatusAnswer, TestSignatureAnswer } from '../schema/admin-answers.ts'
import { withDryRun } from './confirmation.ts'
import { readSecret } from './files.ts'
import type { CommandIo } from './io.ts'
import { online } from './online.ts'
import { type Format, members, type View, writeOne, writeRows } from './output.ts'

const statusView: View<HsmStatusAnswer> = {
  columns: [
    ...members<HsmStatusAnswer>('state', 'detail', 'since', 'pinLatched', 'restarts'),
    {
      name: 'sessions',
      value: ({ sessions }) =>
        `${sessions.open} open, ${sessions.busy} busy, ${sessions.queued} queued, ${sessions.stuck} stuck`,
    },
    { name: 'keys', value: ({ keys }) => keys.map(key => `${key.label} (${key.purposes.join(' ')})`) },
    { name: 'signatures', value: row => row.signatures.map(each => `${each.key} ${each.purpose} ${each.total}`) },
  ],
  name: row => row.state,
}

/** A token that cannot sign is told by the exit code too. */
const writeStatus = (io: CommandIo, format: Format, status: HsmStatusAnswer): void => {
  writeOne(io, format, status, statusView)
  if (status.state === 'ready') return
  io.setExitCode(7)
  io.err(
    status.pinLatched
      ? '  hint: a wrong PIN was tried once and is not tried again; agentca hsm unlock --pin-file FILE\n'
      : status.state === 'locked'
        ? '  hint: agentca hsm unlock --pin-file FILE\n'
        : '  hint: agentca doctor\n',
  )
}

const keyView: View<HsmKeyAnswer> = {
  columns: members<HsmKeyAnswer>(
    'label',
    'curve',
    'sign',
    'sensitive',
    'extractable',
    'alwaysSensitive',
    'neverExtractable',
    'local',
    'id',
  ),
  name: row => row.label,
}

const testView: View<TestSignatureAnswer> = {
  columns: [
    ...members<TestSignatureAnswer>('key'),
    { name: 'milliseconds', value: row => row.milliseconds.toFixed(2) },
    ...members<TestSignatureAnswer>('signature'),
  ],
  name: row => row.key,
}

const unlockCommand = (io: CommandIo): Command =>
  online<{ readonly pinFile?: string; readonly dryRun?: true }>(
    io,
    withDryRun(
      new Command('unlock')
        .description('clear the PIN latch and log in once; without a file the signer reads its own PIN source again')
        .addOption(new Option('--pin-file <file>', 'file with the PIN, or - for standard input')),
    ),
    async ({ client, options: { pinFile, dryRun }, format }) => {
      const pin = pinFile === undefined ? undefined : await readSecret(io, pinFile)
      if (!dryRun) return writeStatus(io, format, await client.call('hsmUnlock', { body: { pin } }))
      writeOne(io, format, await client.call('hsmStatus'), statusView)
      io.err('dry run, no PIN was tried\n')
    },
  )

export const hsmCommand = (io: CommandIo): Command =>
  new Command('hsm')
    .description('the signer and its token')
    .addCommand(
      online(io, new Command('status').description('whether it can sign'), async ({ client, format }) =>
        writeStatus(io, format, await client.call('hsmStatus')),
      ),
    )
    .addCommand(
      online(io, new Command('keys').description('its keys and how they are protected'), async ({ client, format }) =>
        writeRows(io, format, (await client.call('hsmKeys')).items, keyView),
      ),
    )
    .addCommand(
      online<{ readonly key?: string; readonly dryRun?: true }>(
        io,
        withDryRun(
          new Command('test-sign')
            .description('one signature over test data with each key')
            .option('--key <label>', 'only with this key'),
        ),
        async ({ client, options: { key, dryRun = false }, format }) => {
          writeRows(io, format, (await client.call('hsmTestSign', { body: { key, dryRun } })).items, testView)
          if (dryRun) io.err('dry run, nothing was signed\n')
        },
      ),
    )
    .addCommand(unlockCommand(io))
