// What an agent enrols with, and where it comes from: a token out of a file or a descriptor, a JWT out of a file; one of them, never a
// secret in an argument or the environment.
import { execFile } from 'node:child_process'
import { openSync, readFileSync, writeFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createEvidenceReader, evidenceHash } from '../../src/agent/evidence.ts'
import { agentIdentity } from '../../src/agent/index.ts'
import { readSettings } from '../../src/agent/settings.ts'
import { type CaServer, createCaServer } from './ca-server.ts'

const run = promisify(execFile)
let ca: CaServer
beforeAll(async () => {
  ca = await createCaServer()
})
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
})

const codeOf = (work: () => unknown): Promise<string> =>
  (async () => work())().then(
    () => 'fulfilled',
    error => error.code ?? error.message,
  )
const roots = () => ({ url: ca.url, caFile: ca.caFile })

describe('a join token', () => {
  it('comes from a file descriptor, once', async () => {
    const fd = openSync(await ca.tokenFile('by-descriptor'), 'r')
    await using id = await agentIdentity({ ...roots(), tokenFd: fd })
    expect(id.current().spiffeId).toContain('/agent/by-descriptor/')
    const again = openSync(await ca.tokenFile('twice'), 'r')
    const read = createEvidenceReader({ tokenFd: again })
    expect(await read()).toEqual(await read())
  })

  it('comes to a program by a redirection of its shell', async () => {
    const entry = new URL('../../src/agent/index.ts', import.meta.url).href
    const program = ca.scratch('descriptor.mjs')
    writeFileSync(
      program,
      `import { agentIdentity } from '${entry}'
await using id = await agentIdentity()
console.log(id.current().facts.agent)`,
    )
    const line = `exec "${process.execPath}" "${program}" 7<"${await ca.tokenFile('redirected')}"`
    const env = { ...process.env, AGENTCA_URL: ca.url, AGENTCA_CA_FILE: ca.caFile, AGENTCA_TOKEN_FD: '7' }
    expect((await run('sh', ['-c', line], { env })).stdout).toBe('redirected\n')
  })

  it('is no other text, and no descriptor that is not open', async () => {
    const empty = ca.scratch('empty')
    writeFileSync(empty, '\n')
    expect(await codeOf(createEvidenceReader({ tokenFile: empty }))).toBe('option_invalid')
    expect(await codeOf(createEvidenceReader({ tokenFd: 9_999 }))).toBe('file_unreadable')
    for (const fd of ['x', '-1', '1', '2', '3.5'])
      expect(await codeOf(() => readSettings({}, { AGENTCA_TOKEN_FD: fd }))).toBe('option_invalid')
  })
})

describe('a JWT', () => {
  const jwt = 'eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln'
  const file = (text: string) => {
    writeFileSync(ca.scratch('jwt'), text)
    return ca.scratch('jwt')
  }

  it('is read from its file each time', async () => {
    const read = createEvidenceReader({ jwtFile: file(`${jwt}\n`) })
    expect(await read()).toEqual({ type: 'jwt', secret: jwt })
    file(`${jwt}A`)
    expect(await read()).toEqual({ type: 'jwt', secret: `${jwt}A` })
    file('no jwt')
    expect(await codeOf(read)).toBe('option_invalid')
  })

  it('goes to the CA as what it is, and its refusal is told with a way out', async () => {
    const error = await agentIdentity({ ...roots(), jwtFile: file(jwt) }).catch(thrown => thrown)
    expect(error).toMatchObject({ name: 'AgentError', origin: 'ca' })
    expect(error.hint ?? '').not.toBe('')
    expect(`${error.message}${error.hint}`).not.toContain(jwt)
  })
})

describe('sources', () => {
  it('exclude each other, options go before the environment', async () => {
    expect(await codeOf(() => readSettings({ tokenFile: 'a', jwtFile: 'b' }, {}))).toBe('option_invalid')
    expect(await codeOf(() => readSettings({}, { AGENTCA_TOKEN_FILE: 'a', AGENTCA_TOKEN_FD: '3' }))).toBe(
      'option_invalid',
    )
    const token = await ca.tokenFile('preferred')
    const settings = readSettings({ tokenFile: token }, { AGENTCA_JWT_FILE: 'b' })
    expect(await settings.evidence?.()).toEqual({ type: 'token', secret: readFileSync(token, 'utf8').trim() })
    expect(readSettings({}, {}).evidence).toBeNull()
  })

  it('are remembered by their hash', () => {
    expect(evidenceHash('abc')).toBe('sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad')
  })
})
