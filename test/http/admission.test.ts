// Which connections begin their handshake, and when, while more come than a turn of the event loop takes.
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, expect, it } from 'vitest'
import { type Admission, admitInTurns } from '../../src/http/admission.ts'

let server: Server
const clients: Socket[] = []
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy()
  await new Promise(resolve => server.close(resolve))
})

/** The server's own handshakes are a list here: who began, in that order. */
const serve = async (perTurn: number): Promise<{ admission: Admission; begun: Socket[] }> => {
  const begun: Socket[] = []
  server = createServer(socket => begun.push(socket.on('error', () => {})))
  const admission = admitInTurns(server, { perTurn })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { admission, begun }
}

const come = async (count: number): Promise<readonly Socket[]> => {
  const { port } = server.address() as AddressInfo
  const come = Array.from({ length: count }, () => connect(port, '127.0.0.1').on('error', () => {}))
  clients.push(...come)
  await Promise.all(come.map(client => once(client, 'connect')))
  return come
}

/** As the server hears of it, without a kernel between. */
const arrive = (count: number): readonly Socket[] => {
  const sockets = Array.from({ length: count }, () => new Socket())
  clients.push(...sockets)
  for (const socket of sockets) server.emit('connection', socket)
  return sockets
}

it('begins at once what one turn can take, and everybody in the end', async () => {
  const { admission, begun } = await serve(2)
  const [first, second, ...rest] = arrive(7)
  expect(begun).toEqual([first, second])
  expect(admission.waiting()).toBe(5)
  await expect.poll(() => begun.length).toBe(7)
  expect(begun).toEqual(expect.arrayContaining([...rest]))
  expect(admission.waiting()).toBe(0)
})

it('takes the oldest and the newest of those who wait in turns', async () => {
  const { begun } = await serve(2)
  const [a, b, c, d, e, f] = arrive(6)
  await nextTurn()
  expect(begun).toEqual([a, b, c, f])
  await nextTurn()
  expect(begun).toEqual([a, b, c, f, d, e])
})

it('passes over who hung up, and cuts off who waited too long', async () => {
  const { admission, begun } = await serve(1)
  const [first, second, late, gone] = arrive(4)
  gone?.destroy()
  late?.emit('timeout')
  await Promise.all([gone, late].map(socket => once(socket as Socket, 'close')))
  await expect.poll(() => admission.waiting()).toBe(0)
  expect(begun).toEqual([first, second])
  // Whoever was admitted has the server's own time-outs.
  second?.emit('timeout')
  expect(second?.destroyed).toBe(false)
})

it('goes on as before when everybody was served, over real connections', async () => {
  const { admission, begun } = await serve(3)
  for (const round of [1, 2]) {
    await come(40)
    await expect.poll(() => begun.length).toBe(40 * round)
  }
  expect(admission.waiting()).toBe(0)
})
