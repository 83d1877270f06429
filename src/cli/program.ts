// The commands of agentca as one tree. A command's module is loaded when it is the one that is asked for: who revokes in an incident
// does not wait for the server's modules.
import { Command } from 'commander'
import type { CommandIo } from './io.ts'
import { readVersion } from './version.ts'

type CommandFactory = (io: CommandIo) => Command

/** By what they are for, as the help shows them. */
const groups: Readonly<Record<string, Readonly<Record<string, () => Promise<CommandFactory>>>>> = {
  'Identities:': {
    agent: async () => (await import('./agent.ts')).agentCommand,
    instance: async () => (await import('./instance.ts')).instanceCommand,
    service: async () => (await import('./service.ts')).serviceCommand,
    operator: async () => (await import('./operator.ts')).operatorCommand,
    owner: async () => (await import('./owner.ts')).ownerCommand,
    token: async () => (await import('./token.ts')).tokenCommand,
    acme: async () => (await import('./acme.ts')).acmeCommand,
    apply: async () => (await import('./apply.ts')).applyCommand,
    attestor: async () => (await import('./attestor.ts')).attestorCommand,
    orphans: async () => (await import('./orphans.ts')).orphansCommand,
    enroll: async () => (await import('./enroll.ts')).enrollCommand,
  },
  'What agents do:': {
    activity: async () => (await import('./activity.ts')).activityCommand,
    top: async () => (await import('./top.ts')).topCommand,
    monitor: async () => (await import('./monitor.ts')).monitorCommand,
  },
  'Certificates:': {
    cert: async () => (await import('./cert.ts')).certCommand,
    revoke: async () => (await import('./revoke.ts')).revokeCommand,
    feed: async () => (await import('./feed.ts')).feedCommand,
    crl: async () => (await import('./crl.ts')).crlCommand,
    ocsp: async () => (await import('./ocsp.ts')).ocspCommand,
    bundle: async () => (await import('./bundle.ts')).bundleCommand,
    profile: async () => (await import('./profile.ts')).profileCommand,
  },
  'Authorization:': {
    policy: async () => (await import('./policy.ts')).policyCommand,
    why: async () => (await import('./why.ts')).whyCommand,
  },
  'Running the CA:': {
    serve: async () => (await import('./serve.ts')).serveCommand,
    init: async () => (await import('./init.ts')).initCommand,
    ceremony: async () => (await import('./ceremony.ts')).ceremonyCommand,
    status: async () => (await import('./status.ts')).statusCommand,
    doctor: async () => (await import('./doctor.ts')).doctorCommand,
    ca: async () => (await import('./ca.ts')).caCommand,
    hsm: async () => (await import('./hsm.ts')).hsmCommand,
    signer: async () => (await import('./signer.ts')).signerCommand,
    audit: async () => (await import('./audit.ts')).auditCommand,
    events: async () => (await import('./events.ts')).eventsCommand,
    backup: async () => (await import('./backup.ts')).backupCommand,
    clock: async () => (await import('./clock.ts')).clockCommand,
  },
  'Other:': {
    completion: async () => {
      const { completionCommand } = await import('./completion.ts')
      return io => completionCommand(io, () => createProgram(io))
    },
    version: async () => (await import('./version.ts')).versionCommand,
  },
}

/** Every command throws instead of ending the process, prints through `io`, and says in its error which command it was. */
const settle = (command: Command, io: CommandIo, path: string): void => {
  command
    .exitOverride(error => {
      throw Object.assign(error, { path })
    })
    .configureOutput({ writeOut: io.out, writeErr: io.err, outputError: () => {}, getOutHasColors: () => io.colours })
    .helpOption('-h, --help', 'show this help')
    .helpCommand(false)
  for (const child of command.commands) settle(child, io, `${path} ${child.name()}`)
}

const isCommand = (name: string | undefined): boolean =>
  name !== undefined && Object.values(groups).some(group => Object.hasOwn(group, name))

/** @param only the one command that is needed; without a command of this name, all of them: for help, and for what was mistyped */
export const createProgram = async (io: CommandIo, only?: string): Promise<Command> => {
  const program = new Command('agentca')
    .description('certificate authority for AI agents')
    .version(readVersion(), '-V, --version', 'show the version')
  for (const [heading, group] of Object.entries(groups))
    for (const [name, load] of Object.entries(group))
      if (!isCommand(only) || name === only) program.addCommand((await load())(io).helpGroup(heading))
  settle(program, io, 'agentca')
  return program.helpCommand('help [command]', 'show the help of a command')
}
