// Where a test authority may run: not in production, and not beside a real CA. Its keys lie in the memory of a process, so that whoever
// can read that could make any identity of its trust domain.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { AgentCaError } from '../base/errors.ts'

export type TestingErrorCode = 'testing_refused' | 'testing_name_unknown'

export class TestingError extends AgentCaError<TestingErrorCode> {
  override readonly name = 'TestingError'
}

export const marking = 'TEST ONLY'

const warning = `agentca/testing: ${marking}. This certificate authority's keys are in software, in this process: never trust it elsewhere\n`

// Owned by this module: one warning a process, however many authorities.
let warned = false

/** @throws TestingError `testing_refused` */
export const checkSurroundings = (env: Readonly<Record<string, string | undefined>>): void => {
  if (env.NODE_ENV === 'production')
    throw new TestingError('testing_refused', 'a test authority does not run with NODE_ENV=production', {
      hint: 'a real CA: agentca init, agentca serve',
    })
  const home = env.AGENTCA_HOME
  if (home !== undefined && home !== '' && ['init.json', 'agentca.db'].some(name => existsSync(join(home, name))))
    throw new TestingError('testing_refused', `AGENTCA_HOME is ${home}, where a real CA lives`, {
      hint: 'run tests without AGENTCA_HOME',
    })
}

export const warnOnce = (write: (text: string) => void): void => {
  if (warned) return
  warned = true
  write(warning)
}
