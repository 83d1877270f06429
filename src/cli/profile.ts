// `agentca profile …`: the profiles that are in force, and whether files would be taken.

import { readdirSync, statSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { Command } from 'commander'
import { messageOf } from '../base/errors.ts'
import { printable } from '../base/printable.ts'
import { faultsOfProfile } from '../policy/ceilings.ts'
import type { ProfileAnswer } from '../schema/admin-answers.ts'
import { SchemaError } from '../schema/errors.ts'
import { parseProfile } from '../schema/profile.ts'
import { readInputText } from './files.ts'
import type { CommandIo } from './io.ts'
import { online } from './online.ts'
import { members, type OutputOptions, type View, withOutput, writeOne, writeRows } from './output.ts'

const profileView: View<ProfileAnswer> = {
  columns: members<ProfileAnswer>('name', 'kind', 'lifetimeSeconds', 'hash'),
  name: row => row.name,
}

const detailView: View<ProfileAnswer> = {
  columns: [...profileView.columns, { name: 'content', value: row => JSON.stringify(row.content) }],
  name: row => row.name,
}

interface CheckResult {
  readonly file: string
  readonly profile: string
  readonly result: 'ok' | 'failed'
  readonly hash: string | null
  readonly faults: readonly string[]
}

const checkView: View<CheckResult> = {
  columns: members<CheckResult>('file', 'profile', 'result', 'hash'),
  name: row => row.file,
}

const yamlName = /\.ya?ml$/

/** Directories stand for the profiles in them. */
const profileFiles = (io: CommandIo, names: readonly string[]): readonly string[] =>
  names.flatMap(name => {
    const path = resolve(io.cwd, name)
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) return [name]
    return readdirSync(path)
      .filter(each => yamlName.test(each))
      .sort()
      .map(each => join(name, each))
  })

const checkFile = (io: CommandIo, file: string): CheckResult => {
  const profile = basename(file).replace(yamlName, '')
  try {
    const parsed = parseProfile(profile, readInputText(io, file))
    const excesses = faultsOfProfile(parsed)
    if (excesses.length > 0) throw new SchemaError(file, excesses)
    return { file, profile, result: 'ok', hash: parsed.hash, faults: [] }
  } catch (error) {
    const faults =
      error instanceof SchemaError
        ? error.faults.map(({ path, problem }) => (path === '' ? problem : `${path}: ${problem}`))
        : [messageOf(error)]
    return { file, profile, result: 'failed', hash: null, faults }
  }
}

const checkCommand = (io: CommandIo): Command => {
  const command = withOutput(new Command('check'), ['table', 'json', 'jsonl', 'name'])
    .description('whether profile files would be taken, with every fault; needs no server')
    .argument('<file...>', 'files, or directories of them')
  return command.action((names: readonly string[]) => {
    const results = profileFiles(io, names).map(file => checkFile(io, file))
    writeRows(io, command.opts<OutputOptions>().output, results, checkView)
    for (const { file, faults } of results) for (const fault of faults) io.err(`${file}: ${printable(fault)}\n`)
    if (results.length === 0) io.err('no profile files there\n')
    if (results.length === 0 || results.some(each => each.result === 'failed')) io.setExitCode(2)
  })
}

export const profileCommand = (io: CommandIo): Command =>
  new Command('profile')
    .description('certificate profiles')
    .addCommand(
      online(io, new Command('list').description('the profiles in force'), async ({ client, format }) =>
        writeRows(io, format, (await client.call('profilesList')).items, profileView),
      ),
    )
    .addCommand(
      online<object, [string]>(
        io,
        new Command('show').description('one profile with all its values').argument('<name>'),
        async ({ client, format }, name) =>
          writeOne(io, format, await client.call('profilesShow', { params: { name } }), detailView),
      ),
    )
    .addCommand(checkCommand(io))
