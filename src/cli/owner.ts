// `agentca owner …`: who answers for agents, and what happens when somebody leaves.
import { Command } from 'commander'
import { shellWord } from '../base/command-words.ts'
import type { RadiusChangeAnswer } from '../schema/admin-answers.ts'
import type { OwnerAnswer } from '../schema/owner-api.ts'
import {
  type ConfirmationOptions,
  confirmRadius,
  describeRadius,
  hitCount,
  withConfirmation,
  withDryRun,
} from './confirmation.ts'
import type { CommandIo } from './io.ts'
import { ownerView } from './live-things.ts'
import { online } from './online.ts'
import { type Format, writeOne, writeRows } from './output.ts'

const writeGone = (io: CommandIo, format: Format, name: string, answer: RadiusChangeAnswer): void => {
  writeOne(io, format, answer, {
    columns: [
      { name: 'owner', value: () => name },
      { name: 'agents', value: ({ radius }) => radius.registrations.map(each => each.name) },
      { name: 'certificates', value: ({ radius }) => hitCount(radius) },
      { name: 'dryRun', value: ({ dryRun }) => dryRun },
    ],
    name: () => name,
  })
}

interface GoneOptions extends ConfirmationOptions {
  readonly why?: string
}

const goneCommand = (io: CommandIo): Command =>
  online<GoneOptions, [string]>(
    io,
    withConfirmation(
      new Command('gone')
        .description('an owner has left: hold their agents until each is given away or retired')
        .argument('<name>')
        .option('--why <text>', 'for the audit log'),
    ),
    async ({ client, options, format }, name) => {
      const gone = (dryRun: boolean, expected?: number) =>
        client.call('ownersGone', { params: { name }, body: { why: options.why, expected, dryRun } })
      const preview = await gone(true)
      if (options.dryRun === true) {
        io.err(`dry run, nothing was changed: ${describeRadius(preview.radius)}\n`)
        writeGone(io, format, name, preview)
        return
      }
      io.err(`without ${name}, held are ${describeRadius(preview.radius)}\n`)
      const asked = { change: `mark owner ${name} gone`, command: `agentca owner gone ${name}`, radius: preview.radius }
      const expected = await confirmRadius(io, asked, options)
      writeGone(io, format, name, await gone(false, expected))
      io.err(
        'next, for each agent: agentca agent update NAME --owner WHO and agentca agent release NAME, or agentca agent retire NAME\n',
      )
    },
  )

interface CreateOptions {
  readonly dryRun?: true
}

const createCommand = (io: CommandIo): Command =>
  online<CreateOptions, [string]>(
    io,
    withDryRun(
      new Command('create').description('name an owner before anything is registered to them').argument('<name>'),
    ),
    async ({ client, options: { dryRun }, format }, name) => {
      const answer = await client.call('ownersCreate', { body: { name, dryRun } })
      writeOne<OwnerAnswer>(io, format, answer, ownerView)
      if (dryRun === true) io.err('dry run, nothing was created\n')
      else io.err(`next: agentca agent create NAME --owner ${shellWord(name)}\n`)
    },
  )

interface RemoveOptions extends CreateOptions {
  readonly why?: string
}

const removeCommand = (io: CommandIo): Command =>
  online<RemoveOptions, [string]>(
    io,
    withDryRun(
      new Command('remove')
        .description('forget an owner whom nothing is registered to any more')
        .argument('<name>')
        .option('--why <text>', 'for the audit log'),
    ),
    async ({ client, options: { why, dryRun }, format }, name) => {
      const answer = await client.call('ownersRemove', { params: { name }, body: { why, dryRun } })
      writeOne<OwnerAnswer>(io, format, answer, ownerView)
      if (dryRun === true) io.err('dry run, nothing was changed\n')
    },
  )

export const ownerCommand = (io: CommandIo): Command =>
  new Command('owner')
    .description('who answers for agents')
    .addCommand(
      online(
        io,
        new Command('list').description('owners and how many agents they have'),
        async ({ client, format }) => {
          const { items } = await client.call('ownersList')
          writeRows<OwnerAnswer>(io, format, items, ownerView)
        },
      ),
    )
    .addCommand(createCommand(io))
    .addCommand(goneCommand(io))
    .addCommand(removeCommand(io))
