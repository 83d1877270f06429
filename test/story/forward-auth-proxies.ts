// nginx, HAProxy and Caddy with exactly the configuration of their pages in docs/integrations, on this test's paths and ports.
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { blockWith } from '../setup/documents.ts'
import { placed, type Recipe } from './forward-auth-world.ts'

export const installed = ({ program, version }: ProxyProgram): boolean => {
  try {
    execFileSync(program, [version], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

export interface ProxyProgram {
  readonly version: string
  readonly program: string
  /** Writes its configuration from the page. @returns the arguments it runs with */
  readonly configured: (recipe: Recipe) => readonly string[]
}

const blockOf = (recipe: Recipe, language: string, words: string): string =>
  placed(recipe, blockWith(recipe.page, language, words).text)

export const proxies: Readonly<Record<string, ProxyProgram>> = {
  nginx: {
    program: 'nginx',
    version: '-v',
    configured: recipe => {
      const etc = join(recipe.directory, 'etc')
      const scratch = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
        name => `${name}_temp_path ${join(etc, name)};`,
      )
      // Its workers' user is in no group of this test.
      const user = process.getuid?.() === 0 ? 'user root;' : ''
      const around = `${user} daemon off; pid ${join(etc, 'nginx.pid')}; error_log stderr; events {}`
      const server = blockOf(recipe, 'nginx', 'auth_request')
      writeFileSync(join(etc, 'nginx.conf'), `${around}\nhttp { access_log off; ${scratch.join(' ')}\n${server}}\n`)
      return ['-c', join(etc, 'nginx.conf')]
    },
  },
  haproxy: {
    program: 'haproxy',
    version: '-v',
    configured: recipe => {
      const etc = join(recipe.directory, 'etc')
      writeFileSync(join(etc, 'agentca-verify.lua'), blockOf(recipe, 'lua', 'register_action'))
      writeFileSync(join(etc, 'haproxy.cfg'), blockOf(recipe, 'haproxy', 'lua-load'))
      return ['-q', '-db', '-f', join(etc, 'haproxy.cfg')]
    },
  },
  caddy: {
    program: 'caddy',
    version: 'version',
    configured: recipe => {
      const etc = join(recipe.directory, 'etc')
      // Its admin endpoint has one port for all of a machine.
      const text = blockOf(recipe, 'caddyfile', 'forward_auth').replace('{', '{\n  admin off')
      writeFileSync(join(etc, 'Caddyfile'), text)
      return ['run', '--adapter', 'caddyfile', '--config', join(etc, 'Caddyfile')]
    },
  },
}
