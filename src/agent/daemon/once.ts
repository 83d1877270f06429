// `agentca-agent once`: what `run` does at one moment, for timers, cron and init containers: enrols, renews if it is time, or finds that
// there is nothing to do.
import { systemTiming } from '../backoff.ts'
import { callCa } from '../ca-call.ts'
import type { Credential } from '../credential.ts'
import type { CredentialDirectory } from '../credential-directory.ts'
import { presentGeneration } from '../credential-directory.ts'
import { refreshCrls } from '../crl-files.ts'
import { renewerOf } from '../directory-lock.ts'
import { AgentError } from '../errors.ts'
import { loopDeps, obtainIdentity, type Parts } from '../obtain.ts'
import { renew } from '../renew.ts'
import { isBeyondRecovery } from '../renewal-loop.ts'
import { readSettings } from '../settings.ts'
import { afterChange, hooksOf } from './after-change.ts'
import { factsOf, fieldsOf } from './facts.ts'
import { type DaemonIo, writeFields } from './io.ts'
import { logOf } from './log.ts'
import {
  changeOptions,
  directoryOptions,
  identityCommand,
  identityOptionsOf,
  invalid,
  oneOf,
  outputOption,
  type Values,
} from './options.ts'

const { 'on-revoked': _, ...hookOptions } = changeOptions

export const onceOptions = identityCommand({
  ...directoryOptions,
  ...hookOptions,
  force: { value: null, help: 'renew though it is not time yet' },
  ...outputOption,
})

const isDirectory = (store: object): store is CredentialDirectory => Symbol.asyncDispose in store

const renewed = async (parts: Parts, store: CredentialDirectory, credential: Credential): Promise<Credential> => {
  const deps = loopDeps(parts, store, credential)
  try {
    return await renew(deps, credential)
  } catch (error) {
    const again = isBeyondRecovery(error) ? await deps.enrolAgain(credential, 'revoked') : null
    if (again === null) throw error
    return again
  }
}

/** @returns the exit code: 0, or 8 when the files are in place and a hook failed */
export const once = async (io: DaemonIo, values: Values): Promise<number> => {
  const given = await identityOptionsOf(io, values)
  const hooks = hooksOf(io, values)
  const output = oneOf(values, 'output', ['table', 'json'])
  const log = logOf(io, values)
  const options = { ...given, log }
  const settings = readSettings(options, io.env)
  const { dir } = settings
  if (dir === null) throw invalid('--dir is missing (or AGENTCA_DIR)', 'agentca-agent once --dir DIR …')
  const parts: Parts = { options, settings, timing: systemTiming, callCa, signal: new AbortController().signal }

  const before = await presentGeneration(dir).catch(() => null)
  const { kept, store } = await obtainIdentity(parts)
  let { credential } = kept
  let did = 'it is not time to renew yet'
  if (store === null || !isDirectory(store)) {
    const pid = await renewerOf(dir)
    if (values.force === true)
      throw AgentError.of('directory_in_use', `process ${pid} renews in ${dir}`, {
        hint: `kill -HUP ${pid} makes it renew now`,
      })
    did = `process ${pid} renews here`
  } else {
    try {
      const due = systemTiming.clock.monotonic() >= kept.lifetime.renewAt
      const fresh = (await presentGeneration(dir)) !== before
      if (fresh) did = 'enrolled'
      else if (due || values.force === true) {
        credential = await renewed(parts, store, credential)
        did = 'renewed'
      }
      if (did !== 'it is not time to renew yet') await refreshCrls(parts, store, credential)
    } finally {
      await store[Symbol.asyncDispose]()
    }
  }
  const facts = factsOf(credential, dir)
  if (output === 'json') io.out(`${JSON.stringify({ ...facts, did }, null, 2)}\n`)
  else writeFields(io, [...fieldsOf(facts, Date.now()), ['did', did]])
  const changed = (await presentGeneration(dir).catch(() => null)) !== before
  return !changed || (await afterChange(io, log, hooks, dir)) ? 0 : 8
}
