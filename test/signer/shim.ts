// Builds the PKCS#11 shim (shims/slow-shim.c) and steers it: a module that is SoftHSM2 except when its control file says otherwise.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** What the shim does from the next call on; see shims/slow-shim.c. */
export interface ShimControl {
  readonly sleep_ms?: number
  /** Until another control is set. */
  readonly hold?: 1
  readonly ckr?: number
  readonly init_ckr?: number
  readonly login_ckr?: number
  readonly flip?: 0 | 1
  readonly times?: number
}

export interface Pkcs11Shim {
  /** Absolute path of the .so: use it as module path. */
  readonly modulePath: string
  readonly controlFile: string
  /** Replaces the control file atomically; `{}` is good behaviour. */
  set(control: ShimControl): void
  /** How often C_Sign (C_Login) was entered, by any process, since the shim was built. */
  signCalls(): number
  loginCalls(): number
  remove(): void
}

const source = fileURLToPath(new URL('./shims/slow-shim.c', import.meta.url))

export const buildPkcs11Shim = (realModule = '/usr/lib/softhsm/libsofthsm2.so'): Pkcs11Shim => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-shim-'))
  const modulePath = join(directory, 'shim.so')
  const controlFile = join(directory, 'control')
  execFileSync('gcc', [
    '-shared',
    '-fPIC',
    '-O1',
    '-std=gnu11',
    '-w',
    `-DREAL_MODULE="${realModule}"`,
    `-DCONTROL_FILE="${controlFile}"`,
    '-o',
    modulePath,
    source,
    '-ldl',
  ])
  const sizeOf = (path: string): number => (existsSync(path) ? statSync(path).size : 0)
  return {
    modulePath,
    controlFile,
    set(control) {
      const lines = Object.entries(control).map(([name, value]) => `${name}=${value}\n`)
      writeFileSync(`${controlFile}.new`, lines.join(''))
      renameSync(`${controlFile}.new`, controlFile)
    },
    signCalls: () => sizeOf(`${controlFile}.calls`),
    loginCalls: () => sizeOf(`${controlFile}.logins`),
    remove: () => rmSync(directory, { recursive: true, force: true }),
  }
}
