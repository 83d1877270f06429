// The commands of agentca as one tree.
import { Command } from 'commander'
import { agentCommand } from './agent.ts'
import { auditCommand } from './audit.ts'
import { bundleCommand } from './bundle.ts'
import { caCommand } from './ca.ts'
import { ceremonyCommand } from './ceremony.ts'
import { certCommand } from './cert.ts'
import { clockCommand } from './clock.ts'
import { completionCommand } from './completion.ts'
import { crlCommand } from './crl.ts'
import { doctorCommand } from './doctor.ts'
import { enrollCommand } from './enroll.ts'
import { hsmCommand } from './hsm.ts'
import { initCommand } from './init.ts'
import { instanceCommand } from './instance.ts'
import type { CommandIo } from './io.ts'
import { ocspCommand } from './ocsp.ts'
import { operatorCommand } from './operator.ts'
import { ownerCommand } from './owner.ts'
import { profileCommand } from './profile.ts'
import { revokeCommand } from './revoke.ts'
import { serveCommand } from './serve.ts'
import { serviceCommand } from './service.ts'
import { statusCommand } from './status.ts'
import { tokenCommand } from './token.ts'
import { readVersion, versionCommand } from './version.ts'

/** By what they are for, as the help shows them. */
const groups: Readonly<Record<string, readonly ((io: CommandIo) => Command)[]>> = {
  'Identities:': [
    agentCommand,
    instanceCommand,
    serviceCommand,
    operatorCommand,
    ownerCommand,
    tokenCommand,
    enrollCommand,
  ],
  'Certificates:': [certCommand, revokeCommand, crlCommand, ocspCommand, bundleCommand, profileCommand],
  'Running the CA:': [
    serveCommand,
    initCommand,
    ceremonyCommand,
    statusCommand,
    doctorCommand,
    caCommand,
    hsmCommand,
    auditCommand,
    clockCommand,
  ],
  'Other:': [versionCommand],
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

export const createProgram = (io: CommandIo): Command => {
  const program = new Command('agentca')
    .description('certificate authority for AI agents')
    .version(readVersion(), '-V, --version', 'show the version')
  for (const [heading, commands] of Object.entries(groups))
    for (const command of commands) program.addCommand(command(io).helpGroup(heading))
  program.addCommand(completionCommand(io, () => program).helpGroup('Other:'))
  settle(program, io, 'agentca')
  return program.helpCommand('help [command]', 'show the help of a command')
}
