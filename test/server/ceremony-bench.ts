// A ceremony room for tests: real SoftHSM2 tokens in a directory that is removed with it, a clock that can be set, OpenSSL as judge.
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import type { Certificate } from '../../src/pki/certificate.ts'
import type { CeremonyKind } from '../../src/schema/ceremony.ts'
import { performCrlCeremony } from '../../src/server/ceremony/crl.ts'
import {
  acceptIssuingCertificate,
  performIssuingCeremony,
  requestIssuingCertificate,
} from '../../src/server/ceremony/issuing.ts'
import { findJudge } from '../../src/server/ceremony/judge.ts'
import { performRootCeremony } from '../../src/server/ceremony/root.ts'
import { runCeremony } from '../../src/server/ceremony/run.ts'
import type { CeremonyDeps } from '../../src/server/ceremony/steps.ts'
import type { TokenTarget } from '../../src/server/ceremony/token-target.ts'
import type { TranscriptRecord } from '../../src/server/ceremony/transcript.ts'

export const rootYaml = `
ceremony: root
name: root-1
subject: { organization: Example, commonName: Example root 1 }
`
export const issuingYaml = `
ceremony: issuing
name: issuing-1
issuer: { name: root-1 }
subject: { organization: Example, commonName: Example issuing 1 }
statusUrl: http://ca.example.org
`
export const crlYaml = `
ceremony: crl
issuer: { name: root-1 }
`

export const code = (wanted: string) => expect.objectContaining({ code: wanted })

export type Room = Awaited<ReturnType<typeof createRoom>>

export const createRoom = async () => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-ceremony-'))
  const path = (name: string) => join(directory, name)
  const rootToken: TokenTarget = { kind: 'softhsm', directory: path('root-ceremony'), label: 'agentca-root' }
  const onlineToken: TokenTarget = { kind: 'softhsm', directory: path('tokens'), label: 'agentca' }
  const judge = await findJudge()
  const clock = { at: Date.now(), now: () => clock.at }
  let transcripts = 0
  const run = async <K extends CeremonyKind, T>(
    kind: K,
    yaml: string,
    work: Parameters<typeof runCeremony<K, T>>[2],
    mode: CeremonyDeps['mode'] = 'perform',
  ) => {
    const transcriptFile = path(`transcript-${++transcripts}.txt`)
    const text = { source: `${kind}.yaml`, text: yaml }
    return runCeremony({ clock, randomBytes, judge }, { kind, text, mode, transcriptFile }, work)
  }
  const options = { keys: 'new', mode: 'perform' } as const
  return {
    directory,
    path,
    clock,
    judge,
    rootToken,
    onlineToken,
    run,
    root: (yaml = rootYaml, { keys, mode }: RoomOptions = options) =>
      run(
        'root',
        yaml,
        (deps, input) =>
          performRootCeremony(deps, {
            input,
            token: rootToken,
            keys,
            output: { path: path(`${input.name}.pem`), mode: 'new' },
          }),
        mode,
      ),
    issuing: (root: Certificate, yaml = issuingYaml, { keys, mode }: RoomOptions = options) =>
      run(
        'issuing',
        yaml,
        (deps, input) =>
          performIssuingCeremony(deps, {
            input,
            root,
            rootToken,
            token: onlineToken,
            keys,
            output: { path: path(`${input.name}.pem`), mode: 'new' },
          }),
        mode,
      ),
    request: (yaml = issuingYaml) =>
      run('issuing', yaml, (deps, input) =>
        requestIssuingCertificate(deps, {
          input,
          token: onlineToken,
          keys: 'new',
          output: { path: path(`${input.name}.csr`), mode: 'new' },
        }),
      ),
    accept: (root: Certificate, certificate: Certificate, yaml = issuingYaml) =>
      run('issuing', yaml, (deps, input) =>
        acceptIssuingCertificate(deps, {
          input,
          root,
          certificate,
          token: onlineToken,
          output: { path: path(`${input.name}.pem`), mode: 'new' },
        }),
      ),
    crl: (root: Certificate, previous: Uint8Array | null, yaml = crlYaml, { mode }: RoomOptions = options) =>
      run(
        'crl',
        yaml,
        (deps, input) =>
          performCrlCeremony(deps, {
            input,
            root,
            rootToken,
            previous,
            output: { path: path('root-1.crl'), mode: 'replace' },
          }),
        mode,
      ),
    /** The JSON of the newest transcript. */
    lastTranscript: (): TranscriptRecord =>
      JSON.parse(readFileSync(path(`transcript-${transcripts}.txt.json`), 'utf8')),
    lastText: (): string => readFileSync(path(`transcript-${transcripts}.txt`), 'utf8'),
    file: (name: string, content: string | Uint8Array): string => {
      writeFileSync(path(name), content)
      return path(name)
    },
    openssl: (...args: string[]): string =>
      execFileSync('openssl', args, { cwd: directory, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  }
}

interface RoomOptions {
  readonly keys: 'new' | 'keep'
  readonly mode: CeremonyDeps['mode']
}
