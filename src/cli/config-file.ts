// Which configuration a command means, and its checked values: --config, AGENTCA_CONFIG, `ca-config/agentca.yaml` where the command
// runs, else the one of the checkout or package it runs from.
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { messageOf } from '../base/errors.ts'
import { type Config, parseConfig } from '../schema/config.ts'
import { CliError } from './errors.ts'
import { packageRoot } from './home.ts'
import type { CommandIo } from './io.ts'

export interface LoadedConfig {
  readonly config: Config
  /** null: there is none, and all values are defaults or from the environment. */
  readonly file: string | null
  /** Directory of the profiles, absolute. */
  readonly profiles: string
  /** Directory of the policies, absolute. */
  readonly policies: string
  /** Directory of the attestors, absolute; it need not exist. */
  readonly attestors: string
  /** File of the monitor's rules, absolute; null: none. */
  readonly monitor: string | null
}

const usual = join('ca-config', 'agentca.yaml')
const usualRules = 'monitor.yaml'

const fileOf = (io: Pick<CommandIo, 'env' | 'cwd'>, flag: string | undefined): string | null => {
  const named = flag ?? io.env.AGENTCA_CONFIG
  if (named !== undefined && named !== '') return resolve(io.cwd, named)
  return [resolve(io.cwd, usual), resolve(packageRoot, usual)].find(file => existsSync(file)) ?? null
}

const readText = (file: string): string => {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new CliError('file_unreadable', `cannot read the configuration ${file}: ${messageOf(error)}`)
  }
}

/**
 * @param flags values from the command line, by path: `listen.api`
 * @throws CliError file_unreadable, SchemaError
 */
export const loadConfig = (
  io: Pick<CommandIo, 'env' | 'cwd'>,
  flag: string | undefined,
  flags: Readonly<Record<string, string | undefined>> = {},
): LoadedConfig => {
  const file = fileOf(io, flag)
  const text = file === null ? null : readText(file)
  const config = parseConfig({ text, source: file ?? 'configuration', env: io.env, flags })
  const beside = file === null ? resolve(packageRoot, 'ca-config') : dirname(file)
  const rules = resolve(beside, config.monitor ?? usualRules)
  return {
    config,
    file,
    profiles: resolve(beside, config.profiles),
    policies: resolve(beside, config.policies),
    attestors: resolve(beside, config.attestors),
    // The usual one may be missing; one that was named may not.
    monitor: config.monitor !== undefined || existsSync(rules) ? rules : null,
  }
}
