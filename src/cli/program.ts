// The commands of agentca as one tree.
import { Command } from 'commander'
import type { CommandIo } from './io.ts'
import { readVersion, versionCommand } from './version.ts'

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
  for (const command of [versionCommand(io)]) program.addCommand(command)
  settle(program, io, 'agentca')
  return program
}
