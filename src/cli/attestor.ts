// `agentca attestor …`: whose evidence enrols, checked before it is in force and tried on a token.
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { Command } from 'commander'
import { systemClock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import { silentLog } from '../base/log.ts'
import type { AttestorAnswer, EvidenceAnswer } from '../schema/attestor-api.ts'
import { openAttestor, readAttestor } from '../server/attestors.ts'
import { CliError } from './errors.ts'
import { readSecret } from './files.ts'
import type { CommandIo } from './io.ts'
import { online } from './online.ts'
import { members, type OutputOptions, type View, withOutput, writeOne, writeRows } from './output.ts'

const attestorView: View<AttestorAnswer> = {
  columns: members<AttestorAnswer>('name', 'kind', 'state', 'authority', 'keys', 'rules', 'updatedAt', 'problem'),
  name: row => row.name,
}

const listCommand = (io: CommandIo): Command =>
  online(
    io,
    new Command('list').description('the attestors in force, and whether they can vouch for anybody now'),
    async ({ client, format }) => writeRows(io, format, (await client.call('attestorsList')).items, attestorView),
  )

interface Checked {
  readonly name: string
  readonly kind: string
  readonly enabled: boolean
  readonly authority: string
  readonly rules: number
}

const checkedView: View<Checked> = {
  columns: members<Checked>('name', 'kind', 'enabled', 'authority', 'rules'),
  name: row => row.name,
}

const checkCommand = (io: CommandIo): Command => {
  const command = withOutput(
    new Command('check')
      .description('every fault of an attestor’s file; needs no server and asks no provider')
      .argument('<file>', 'for example ca-config/attestors/github.yaml'),
  )
  return command.action((named: string) => {
    const file = resolve(io.cwd, named)
    const settings = readAttestor(file)
    // What it names has to be there where it is in force.
    if (settings.enabled && settings.kind === 'x509')
      try {
        openAttestor(settings, { clock: systemClock, log: silentLog, publicUrl: '' }).close()
      } catch (error) {
        throw new CliError('usage', `${named}: ${messageOf(error)}`, { hint: 'name files that this machine has' })
      }
    if (settings.enabled && settings.kind === 'jwt' && settings.keys.from === 'file') readFileSync(settings.keys.file)
    const { name, kind, enabled, rules } = settings
    const authority = settings.kind === 'jwt' ? settings.issuer : settings.anchorsFile
    const { output } = command.opts<OutputOptions>()
    writeOne(io, output, { name, kind, enabled, authority, rules: rules.length }, checkedView)
    io.err(enabled ? 'next: kill -HUP the server, then agentca attestor list\n' : 'it is switched off: enabled: true\n')
  })
}

const evidenceView: View<EvidenceAnswer> = {
  columns: members<EvidenceAnswer>(
    'attestor',
    'issuer',
    'audience',
    'subject',
    'expiresAt',
    'rule',
    'becomes',
    'code',
    'problem',
    'missed',
  ),
  name: row => row.becomes ?? '',
}

const testCommand = (io: CommandIo): Command =>
  online<{ readonly jwtFile: string }>(
    io,
    new Command('test')
      .description('what would come of a token, rule by rule; it is not used up')
      .requiredOption('--jwt-file <file>', 'the token, - for standard input'),
    async ({ client, options, format }) => {
      const jwt = await readSecret(io, options.jwtFile)
      const answer = await client.call('attestorsTest', { body: { jwt } })
      writeOne(io, format, answer, evidenceView)
      if (answer.problem === null) io.err(`it would enrol ${answer.becomes}\n`)
      else io.setExitCode(9)
    },
  )

export const attestorCommand = (io: CommandIo): Command =>
  new Command('attestor')
    .description('attestors: identity providers and authorities whose evidence enrols')
    .addCommand(listCommand(io))
    .addCommand(checkCommand(io))
    .addCommand(testCommand(io))
