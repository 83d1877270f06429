// The PKCS#12 files of `agentca cert export` in programs that nobody here wrote.
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, expect } from 'vitest'
import { blockWith } from '../../setup/documents.ts'
import { mustRun, type ServedCa, startServedCa } from '../../story/served-ca.ts'
import { compat } from '../compat.ts'
import { type PythonPackage, pythonSubject, pythonWith } from '../python-venv.ts'
import type { Subject } from '../subject.ts'

const java: Subject = {
  name: 'Java keytool',
  programs: ['java', 'javac', 'keytool'],
  version: ['-version'],
  from: 'Debian: default-jdk-headless',
  // From where on a source file is run as it is, and TLS 1.3 is there.
  atLeast: '11.0',
}
/** The linters bring it along. */
const folder = join(import.meta.dirname, '../lints')
const environment: PythonPackage = { name: 'pkilint', folder }
const cryptography = pythonSubject({ name: 'cryptography', folder })

let made: Promise<ServedCa> | null = null
afterAll(async () => {
  if (made !== null) await (await made)[Symbol.asyncDispose]()
})

const makeAll = async (): Promise<ServedCa> => {
  const ca = await startServedCa()
  await ca.enrolled('ledger')
  const cwd = ca.directory
  await mustRun('openssl', ['rand', '-base64', '-out', 'p12.password', '24'], { cwd })
  for (const [what, file] of [
    [[], 'ledger.p12'],
    [['--roots'], 'roots.p12'],
  ] as const) {
    const args = ['cert', 'export', '--dir', 'ledger', ...what, '--format', 'p12']
    const { code, err } = await ca.agentca(...args, '--password-file', 'p12.password', '--file', file)
    if (code !== 0) throw new Error(err)
  }
  return ca
}
const scene = (): Promise<ServedCa> => {
  made ??= makeAll()
  return made
}

compat(java, 'lists a key with its chain, and roots that it trusts', async ({ path }) => {
  const { directory } = await scene()
  const env = { ...process.env, PATH: `${dirname(path('keytool'))}:${process.env.PATH}` }
  const { text } = blockWith('docs/keystores.md', 'console', 'keytool')
  const said = await mustRun('/bin/sh', ['-ec', text], { cwd: directory, env })
  expect(said).toMatch(/^agent-ledger, .*PrivateKeyEntry/m)
  expect(said).toMatch(/^agentca root 1, .*trustedCertEntry/m)
})

compat(java, 'calls the API with the key store and the trust store', async ({ path }) => {
  const { directory, urls } = await scene()
  const source = join(import.meta.dirname, 'Call.java')
  const args = [source, `${urls.api}/v1/self`, 'ledger.p12', 'roots.p12', 'p12.password']
  const self = JSON.parse(await mustRun(path('java'), args, { cwd: directory }))
  expect(self).toMatchObject({ registration: { name: 'ledger' } })
})

compat(cryptography, 'reads key, certificates and roots', async found => {
  const { directory } = await scene()
  const python = await pythonWith(environment, found)
  const read = async (file: string) => {
    const args = [join(import.meta.dirname, 'read.py'), file, 'p12.password']
    return JSON.parse(await mustRun(python, args, { cwd: directory }))
  }
  const text = (file: string): string => readFileSync(join(directory, 'ledger', file), 'utf8')
  const { name, key, certificates } = await read('ledger.p12')
  expect([name, key, certificates.join('')]).toEqual(['agent-ledger', text('tls.key'), text('tls.crt')])
  expect(await read('roots.p12')).toMatchObject({ key: null, certificates: [text('ca.crt')] })
})
