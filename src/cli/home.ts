// Which AGENTCA_HOME a command means: --home, AGENTCA_HOME, `.agentca` of the checkout it runs from, /var/lib/agentca.
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type HomePaths, homePaths } from '../server/home.ts'
import type { CommandIo } from './io.ts'

/** Two folders above both src/cli and dist/cli. */
export const packageRoot = fileURLToPath(new URL('../..', import.meta.url))

/** Sources run only in a checkout; a package carries the compiled files. */
export const isCheckout = import.meta.url.endsWith('.ts')

export const homeDirectory = (io: Pick<CommandIo, 'env' | 'cwd'>, flag: string | undefined): string => {
  const named = flag ?? io.env.AGENTCA_HOME
  if (named !== undefined && named !== '') return resolve(io.cwd, named)
  return isCheckout ? resolve(packageRoot, '.agentca') : '/var/lib/agentca'
}

export const homeOf = (io: Pick<CommandIo, 'env' | 'cwd'>, flag: string | undefined): HomePaths =>
  homePaths(homeDirectory(io, flag))
