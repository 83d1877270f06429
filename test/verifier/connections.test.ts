// Which connection a call came over, told by its ends: what gRPC gives of a connection is no more than these.
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { type AddressInfo, connect, type ListenOptions, type TcpNetConnectOpts } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls, createServer, type TLSSocket } from 'node:tls'
import { afterEach, describe, expect, it } from 'vitest'
import { createConnections } from '../../src/verifier/connections.ts'

const ending: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
})

const temporary = (): string => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-connections-'))
  ending.push(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** Whose certificates prove nothing: it is about sockets here. */
const listening = async (at: ListenOptions) => {
  const directory = temporary()
  const [key, cert] = [join(directory, 'key'), join(directory, 'cert')]
  const subject = ['-subj', '/CN=localhost', '-days', '1', '-nodes']
  const made = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', ...subject]
  execFileSync('openssl', [...made, '-keyout', key, '-out', cert], { stdio: 'ignore' })
  const connections = createConnections(() => ({}) as never)
  const server = createServer({ key: readFileSync(key), cert: readFileSync(cert) })
  server.on('secureConnection', (socket: TLSSocket) => {
    socket.on('error', () => socket.destroy())
    connections.opened(socket, 0, 0)
  })
  server.listen(at)
  await once(server, 'listening')
  ending.push(() => server.close())
  const open = async (to: TcpNetConnectOpts | { path: string }): Promise<TLSSocket> => {
    const accepted = once(server, 'secureConnection')
    const client = connectTls({ socket: connect(to), rejectUnauthorized: false })
    client.on('error', () => client.destroy())
    ending.push(() => client.destroy())
    return (await accepted)[0]
  }
  return { connections, open, port: (server.address() as AddressInfo).port }
}

describe('a connection by its ends', () => {
  it('is told from one of the same peer and port to another address of this machine', async () => {
    const { connections, open, port } = await listening({ host: '0.0.0.0', port: 0 })
    const first = await open({ host: '127.0.0.2', port, localAddress: '127.0.0.1' })
    const second = await open({ host: '127.0.0.1', port, localAddress: '127.0.0.1', localPort: first.remotePort! })
    expect(second.remotePort).toBe(first.remotePort)
    expect(connections.between(first)?.socket).toBe(first)
    expect(connections.between(second)?.socket).toBe(second)
  })

  it('is nobody where two have the same ends, and the one that is left afterwards', async () => {
    const { connections, open, port } = await listening({ host: '127.0.0.1', port: 0 })
    const [first, second] = [await open({ host: '127.0.0.1', port }), await open({ host: '127.0.0.1', port })]
    const { localAddress, localPort, remoteAddress, remotePort } = first
    const ends = { localAddress, localPort, remoteAddress, remotePort }
    for (const [name, value] of Object.entries(ends)) Object.defineProperty(second, name, { value })
    connections.opened(second, 0, 0)
    expect(connections.between(ends)).toBeNull()
    const closed = once(first, 'close')
    first.destroy()
    await closed
    expect(connections.between(ends)?.socket).toBe(second)
  })

  it('is nobody on a socket in the file system: all connections of it look alike', async () => {
    const path = join(temporary(), 'socket')
    const { connections, open } = await listening({ path })
    const socket = await open({ path })
    expect(connections.of(socket)?.socket).toBe(socket)
    expect(connections.between(socket)).toBeNull()
  })
})
