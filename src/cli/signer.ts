// `agentca signer …`: the signer under a user of its own, apart from the core. Where the server starts its signer by itself, none of it
// is needed.
import { Command } from 'commander'
import { systemClock } from '../base/clock.ts'
import { forbidCoreDumps } from '../server/core-dumps.ts'
import { addSignerKey, type Separated, separateSigner } from '../server/separate-signer.ts'
import { type ServedSigner, serveSigner } from '../server/serve-signer.ts'
import { createLog } from '../telemetry/log.ts'
import { withDryRun } from './confirmation.ts'
import { groupId, userId } from './file-owner.ts'
import { readInput } from './files.ts'
import { homeOf } from './home.ts'
import type { CommandIo } from './io.ts'

const defaultDirectory = '/var/lib/agentca-signer'
const defaultSocket = '/run/agentca-signer/signer.sock'
const inDirectory = [
  '--directory <dir>',
  'of the signer: its token, configuration and counts',
  defaultDirectory,
] as const

interface SeparateFlags {
  readonly home?: string
  readonly directory: string
  readonly socket: string
  readonly user?: string
  readonly group?: string
  readonly dryRun?: true
}

const nextSteps = ({ directory, socket, tokens, pinSource }: Separated): string =>
  [
    ...(tokens === null && pinSource !== null
      ? [`the PIN stays in ${pinSource}: give that file to the user of the signer, mode 0600`]
      : []),
    'in agentca.yaml:',
    'signer:',
    `  socket: ${socket}`,
    `then: systemctl enable --now agentca-signer (agentca signer serve --directory ${directory}), and systemctl start agentca`,
    '',
  ].join('\n')

const separateCommand = (io: CommandIo): Command =>
  withDryRun(
    new Command('separate')
      .description(
        "move token, PIN and counts from the stopped CA's home to a signer under a user of its own (as root)",
      )
      .option('--home <dir>', 'AGENTCA_HOME')
      .option(...inDirectory)
      .option('--socket <path>', 'where cores find it', defaultSocket)
      .option('--user <name>', 'the user of the signer')
      .option('--group <name>', "its group, which opens the socket: the CA's"),
  ).action(async ({ home, directory, socket, user, group, dryRun: dry }: SeparateFlags) => {
    const uid = user === undefined ? process.getuid?.() : await userId(user)
    const gid = group === undefined ? process.getgid?.() : await groupId(group)
    const owner = uid === undefined || gid === undefined ? null : { uid, gid }
    const separated = await separateSigner({ paths: homeOf(io, home), directory, socket, owner, dryRun: dry === true })
    io.out(`${JSON.stringify(separated)}\n`)
    io.err(dry === true ? 'dry run, nothing was moved\n' : nextSteps(separated))
  })

interface AddKeyFlags {
  readonly directory: string
  readonly certificate: string
  readonly dryRun?: true
}

const addKeyCommand = (io: CommandIo): Command =>
  withDryRun(
    new Command('add-key')
      .description('let the signer use the key of another issuing CA, as its user or root')
      .argument('<label>', 'of the key in the token: the name of the CA')
      .requiredOption('--certificate <file>', "the CA's certificate, PEM, or - for standard input")
      .option(...inDirectory),
  ).action((label: string, { directory, certificate, dryRun }: AddKeyFlags) => {
    const certificatePem = Buffer.from(readInput(io, certificate)).toString('utf8')
    const keys = addSignerKey({ directory, label, certificatePem, dryRun: dryRun === true })
    io.out(`${JSON.stringify({ keys })}\n`)
    io.err(dryRun === true ? 'dry run, nothing was added\n' : 'known; next: systemctl reload agentca-signer\n')
  })

const serveCommand = (io: CommandIo): Command =>
  new Command('serve')
    .description('run the signer; one JSON line when it listens; SIGHUP takes a changed configuration')
    .option(...inDirectory)
    .action(async ({ directory }: { directory: string }) => {
      const log = createLog({ level: 'info', destination: 2 })
      forbidCoreDumps(log)
      // From the first moment on: without a listener SIGHUP ends the process.
      const started = Promise.withResolvers<ServedSigner>()
      process.on('SIGHUP', () => void started.promise.then(served => served.reload()))
      const signer = await serveSigner({ directory, clock: systemClock, log })
      const ended = new Promise<void>((resolve, reject) => {
        const end = (): void => void signer.close().then(resolve, reject)
        process.once('SIGTERM', end)
        process.once('SIGINT', end)
      })
      started.resolve(signer)
      io.out(`${JSON.stringify(signer.line)}\n`)
      await ended
    })

export const signerCommand = (io: CommandIo): Command =>
  new Command('signer')
    .description('a signer under a user of its own')
    .addCommand(serveCommand(io))
    .addCommand(separateCommand(io))
    .addCommand(addKeyCommand(io))
