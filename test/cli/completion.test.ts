// Completion scripts: bash itself reads and runs its own; every script names every command and option of the tree.
import { spawnSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { completionNodes } from '../../src/cli/completion.ts'
import { createProgram } from '../../src/cli/program.ts'
import { runCommand, silentIo } from './command.ts'

const scriptOf = async (shell: string): Promise<string> => (await runCommand(['completion', shell])).out

/** What bash would offer for these words, the last one being typed. */
const offers = async (...words: readonly string[]): Promise<readonly string[]> => {
  const quoted = ['agentca', ...words].map(word => `'${word}'`).join(' ')
  const script = `${await scriptOf('bash')}
COMP_WORDS=(${quoted})
COMP_CWORD=${words.length}
_agentca
printf '%s\\n' "\${COMPREPLY[@]}"`
  const { status, stdout, stderr } = spawnSync('bash', ['-c', script], { encoding: 'utf8' })
  expect([status, stderr]).toEqual([0, ''])
  return stdout.split('\n').filter(line => line !== '')
}

describe('bash completion', () => {
  it('passes bash -n', async () => {
    const { status, stderr } = spawnSync('bash', ['-n'], { input: await scriptOf('bash'), encoding: 'utf8' })
    expect([status, stderr]).toEqual([0, ''])
  })

  it.each([
    [['ag'], ['agent']],
    [['agent', 'ho'], ['hold']],
    [['agent', 'create', 'billing', '--ow'], ['--owner']],
    [
      ['agent', 'list', '--state', ''],
      ['active', 'held', 'retired'],
    ],
    [['revoke', '--reason', 'key'], ['keyCompromise']],
    [['completion', 'f'], ['fish']],
    // A value that is typed freely: files are offered by bash itself.
    [['token', 'create', '--bind-key', 'k'], []],
  ])('offers after %j: %j', async (words, expected) => expect(await offers(...words)).toEqual(expected))
})

describe.each(['bash', 'zsh', 'fish', 'powershell'])('the script for %s', shell => {
  it('names every command and every option of the tree', async () => {
    const script = await scriptOf(shell)
    const nodes = completionNodes(await createProgram(silentIo))
    expect(nodes.length).toBeGreaterThan(50)
    for (const node of nodes) {
      expect(script).toContain(node.path)
      for (const { flags } of node.options)
        for (const flag of flags) expect(script).toContain(shell === 'fish' ? flag.replace(/^-+/, '') : flag)
    }
  })

  it('is the same every time', async () => expect(await scriptOf(shell)).toBe(await scriptOf(shell)))
})

it('zsh reads its script as bash reads the one inside it', async () => {
  const inner = (await scriptOf('zsh')).split('\n').filter(line => !line.startsWith('autoload'))
  expect(spawnSync('bash', ['-n'], { input: inner.join('\n') }).status).toBe(0)
})
