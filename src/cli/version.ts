// `agentca version`, and the one place that knows it: package.json, two folders above both src/cli and dist/cli.
import { readFileSync } from 'node:fs'
import { Command } from 'commander'
import type { CommandIo } from './io.ts'
import { type OutputOptions, withOutput, writeJson } from './output.ts'

export const readVersion = (): string =>
  (JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }).version

export const versionCommand = (io: CommandIo): Command => {
  const command = withOutput(new Command('version'), ['table', 'json']).description(
    'version of agentca and its runtime',
  )
  return command.action(() => {
    const versions = { version: readVersion(), node: process.versions.node, openssl: process.versions.openssl }
    if (command.opts<OutputOptions>().output === 'json') writeJson(io, versions)
    else io.out(`agentca ${versions.version} (node ${versions.node}, openssl ${versions.openssl})\n`)
  })
}
