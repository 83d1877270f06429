// Lists page by page, and the four forms of output.
import { stripVTControlCharacters } from 'node:util'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { runCommand, type Surroundings } from './command.ts'
import { registration } from './fixtures.ts'
import { startServer, type TestServer } from './server.ts'

let server: TestServer
beforeAll(async () => {
  server = await startServer()
})
afterAll(() => server?.[Symbol.asyncDispose]())
beforeEach(() => server.reset())

const run = (line: string, around: Surroundings = {}) => runCommand(line.split(' '), { env: server.env, ...around })
const queries = () => server.calls.map(call => call.query)

describe('agentca cert list', () => {
  const columns = 'serial state kind agent instance generation notBefore notAfter issuedAt revokedAt reason'.split(' ')

  it('has the columns of the contract in their order, in the table and in JSON', async () => {
    const table = await run('cert list')
    expect(table.out.split('\n')[0]?.trim().split(/ +/)).toEqual(columns)
    const json = JSON.parse((await run('cert list -o json')).out) as object[]
    expect(Object.keys(json[0] as object)).toEqual(columns)
  })

  it('gives 100, and says how to get the next', async () => {
    const { out, err } = await run('cert list -o name')
    expect(out.trim().split('\n')).toHaveLength(100)
    const next = (100).toString(16).padStart(32, '0')
    expect(err).toBe(`more: --after ${next}, or --all\n`)
    const second = await run(`cert list -o name --after ${next}`)
    expect(second.out.split('\n')[0]).toBe((101).toString(16).padStart(32, '0'))
  })

  it.each(['json', 'jsonl', 'name'])('gives all of them with --all as %s, in pages of 1,000', async format => {
    const { out, err } = await run(`cert list --all -o ${format}`)
    const rows = format === 'json' ? (JSON.parse(out) as unknown[]) : out.trim().split('\n')
    expect([rows.length, new Set(rows).size, err]).toEqual([2500, 2500, ''])
    expect(queries()).toMatchObject([{ limit: 1000 }, { limit: 1000 }, { limit: 1000 }])
  })

  it('asks for whom it is told to', async () => {
    await run('cert list --service orders --state revoked --instance a1b2')
    expect(queries()).toMatchObject([{ kind: 'service', name: 'orders', state: 'revoked', instance: 'a1b2' }])
  })
})

describe('output', () => {
  it('is an array, documents a line, names a line, or a table', async () => {
    expect(JSON.parse((await run('agent list -o json')).out)).toHaveLength(2)
    const lines = (await run('agent list -o jsonl')).out.trim().split('\n')
    expect(lines.map(line => (JSON.parse(line) as { name: string }).name)).toEqual(['archive', 'billing'])
    expect((await run('agent list -o name')).out).toBe('archive\nbilling\n')
    expect((await run('agent list')).out).toMatch(/^name +state +owner/)
  })

  it('never lets what others wrote drive the terminal', async () => {
    server.answer('registrationsShow', () => ({
      ...registration('billing', { purpose: '\u001b[2Jcleared\u202eltr\u0085' }),
      liveInstances: [],
      tokens: [],
    }))
    const { out } = await run('agent show billing', { colours: false })
    expect(out).toContain('\\x1b[2Jcleared\\u202eltr\\x85')
    expect(out).not.toContain('\u001b')
  })

  it('has colours only where it is told that it may', async () => {
    expect((await run('agent list', { colours: true })).out).toContain('\u001b[32mactive\u001b[39m')
    expect((await run('agent list')).out).not.toContain('\u001b')
    expect((await run('agent list -o json', { colours: true })).out).not.toContain('\u001b')
  })

  it('keeps columns aligned whatever is coloured', async () => {
    const coloured = (await run('agent list', { colours: true })).out
    expect(stripVTControlCharacters(coloured)).toBe((await run('agent list')).out)
  })
})

describe('a refusal of the server', () => {
  it('is told with its hint and request id on standard error', async () => {
    expect(await run('agent show ghost')).toEqual({
      code: 3,
      out: '',
      err: 'agentca: no agent is called ghost\n  hint: agentca agent list\n  request request-1 (not_found)\n',
    })
  })

  it('is the problem document with -o json', async () => {
    const { code, out, err } = await run('agent show ghost -o json')
    expect([code, out]).toEqual([3, ''])
    expect(JSON.parse(err)).toEqual({
      type: 'urn:agentca:problem:not_found',
      title: 'Not found',
      status: 404,
      detail: 'no agent is called ghost',
      code: 'not_found',
      requestId: 'request-1',
      hint: 'agentca agent list',
    })
  })

  it('has every fault of a body on a line of its own', async () => {
    const { code, err } = await run(`agent create ${'x'.repeat(65)} --owner ${'y'.repeat(65)}`)
    expect(code).toBe(2)
    expect(err.match(/^ {2}why: {2}(?:name|owner): /gm)).toHaveLength(2)
  })
})
