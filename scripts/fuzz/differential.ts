// What we accept, others accept: OpenSSL and Go read the same bytes, each in one run over a folder. A refusal of theirs is a finding unless
// test/fuzz/disagreements.json has a reason for it. The other way round we may be as strict as we like.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ForeignForm } from '../../test/fuzz/target.ts'

const folder = join(import.meta.dirname, '../../test/fuzz')

interface Reason {
  readonly by: string
  readonly form: ForeignForm
  /** Of what the other says. */
  readonly pattern: string
  readonly reason: string
}

export const reasons = JSON.parse(readFileSync(join(folder, 'disagreements.json'), 'utf8')) as readonly Reason[]

export interface Refusal {
  readonly by: string
  readonly problem: string
  readonly input: Uint8Array
}

const openssl: Readonly<Record<ForeignForm, string>> = {
  certificate: 'openssl x509 -inform DER -noout -in',
  csr: 'openssl req -inform DER -noout -in',
  crl: 'openssl crl -inform DER -noout -in',
  'ocsp-request': 'openssl ocsp -req_text -reqin',
}

/** @returns lines of file name, tab, reason; null where the program is not here */
const byOpenssl = (form: ForeignForm, directory: string): string | null => {
  const script = `for f in *.der; do ${openssl[form]} $f >/dev/null 2>err || printf '%s\\t%s\\n' $f "$(grep -m1 error err || head -1 err)"; done`
  const { status, stdout } = spawnSync('sh', ['-c', script], { cwd: directory, encoding: 'utf8' })
  return spawnSync('openssl', ['version']).error === undefined && status === 0 ? stdout : null
}

const byGo = (form: ForeignForm, directory: string): string | null => {
  const { status, stdout, stderr, error } = spawnSync('go', ['run', '.', form, directory], {
    cwd: join(folder, 'go'),
    encoding: 'utf8',
    env: { ...process.env, GOFLAGS: '-mod=readonly -buildvcs=false', GOTOOLCHAIN: 'local' },
  })
  if (error !== undefined) return null
  if (status !== 0) throw new Error(`test/fuzz/go: ${stderr}`)
  return stdout
}

const others = { OpenSSL: byOpenssl, Go: byGo } as const

const isExplained = (form: ForeignForm, by: string, problem: string): boolean =>
  reasons.some(each => each.by === by && each.form === form && new RegExp(each.pattern).test(problem))

/** @returns refusals that nothing explains, and in words what was tried */
export const disagreements = (
  form: ForeignForm,
  inputs: readonly Uint8Array[],
): { readonly tried: string; readonly found: readonly Refusal[] } => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-fuzz-'))
  const tried: string[] = []
  const found: Refusal[] = []
  try {
    for (const [i, input] of inputs.entries()) writeFileSync(join(directory, `${i}.der`), input)
    for (const [by, read] of Object.entries(others)) {
      const lines = read(form, directory)
      tried.push(lines === null ? `${by} is not installed` : `${inputs.length} read by ${by}`)
      for (const line of lines?.split('\n') ?? []) {
        if (line === '') continue
        const [name = '', problem = ''] = line.split('\t')
        const input = inputs[Number.parseInt(name, 10)] as Uint8Array
        if (!isExplained(form, by, problem)) found.push({ by, problem, input })
      }
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
  return { tried: tried.join(', '), found }
}
