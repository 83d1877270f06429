// This checkout as somebody else has it: its files in a folder of their own, without its `.agentca/`, its build and its environment.
import { execFileSync } from 'node:child_process'
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { root } from '../../scripts/bootstrap.mjs'

export interface CheckoutCopy extends Disposable {
  readonly directory: string
  /** That of the tests without what npm and agentca put there, the pinned runtime first on the path. */
  readonly env: NodeJS.ProcessEnv
}

export const cleanEnv = (): NodeJS.ProcessEnv => ({
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(npm_|AGENTCA_|INIT_CWD|NODE_)/.test(name))),
  PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH ?? ''}`,
})

/** Tracked files, and new ones that are not ignored: what a commit of the work tree would hold. */
const filesOf = (directory: string): readonly string[] =>
  execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: directory,
    encoding: 'utf8',
  })
    .split('\0')
    .filter(name => name !== '' && existsSync(join(directory, name)))

/** Installed packages are linked one by one: whoever removes the copy's `node_modules` removes links. */
const linkPackages = (directory: string): void => {
  const [from, to] = [join(root, 'node_modules'), join(directory, 'node_modules')]
  mkdirSync(to)
  for (const name of readdirSync(from))
    if (name === '.agentca-setup') copyFileSync(join(from, name), join(to, name))
    else if (name !== '.cache') symlinkSync(join(from, name), join(to, name))
}

export const copyCheckout = (): CheckoutCopy => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-copy-'))
  for (const name of filesOf(root)) cpSync(join(root, name), join(directory, name), { recursive: true })
  linkPackages(directory)
  return {
    directory,
    env: cleanEnv(),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  }
}
