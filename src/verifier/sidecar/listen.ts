// Where the sidecar listens and whom it forwards to: a unix socket or an address, read from text.
import { once } from 'node:events'
import { chmod, lstat, rm } from 'node:fs/promises'
import { type AddressInfo, connect, type Server } from 'node:net'
import { dirname } from 'node:path'
import { messageOf } from '../../base/errors.ts'
import { SidecarError, usage } from './errors.ts'

export type Place = { readonly path: string } | { readonly host: string; readonly port: number }

/** `unix:/path/to.sock`, `HOST:PORT` or `[IPv6]:PORT`. @throws SidecarError `usage` */
export const parsePlace = (option: string, text: string): Place => {
  if (text.startsWith('unix:')) {
    const path = text.slice(5)
    // sun_path of Linux has 108 bytes with its end, of others 104.
    if (!path.startsWith('/') || Buffer.byteLength(path) > 100)
      throw usage(`${option}: expected unix: and an absolute path of at most 100 bytes, got "${text}"`)
    return { path }
  }
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})$/.exec(text)
  const port = Number(match?.[3])
  if (match === null || port > 65_535) throw usage(`${option}: expected unix:/path/to.sock or HOST:PORT, got "${text}"`)
  return { host: (match[1] ?? match[2]) as string, port }
}

/** Only this machine: what goes there is not encrypted, and whoever listens there believes it. */
export const isOnThisMachine = (place: Place): boolean =>
  'path' in place || place.host === 'localhost' || place.host === '::1' || /^127(?:\.[0-9]{1,3}){3}$/.test(place.host)

export const placeText = (place: Place): string =>
  'path' in place ? `unix:${place.path}` : `${place.host.includes(':') ? `[${place.host}]` : place.host}:${place.port}`

const answers = (path: string): Promise<boolean> =>
  new Promise(resolve => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })

/** What a killed sidecar left behind; never another program's live socket, nor a file that is none. */
const clearStale = async (path: string): Promise<void> => {
  const there = await lstat(path).catch(() => null)
  if (there === null) return
  if (!there.isSocket())
    throw new SidecarError('socket_in_use', `${path} is there and is no socket`, { hint: `look at it: ls -l ${path}` })
  if (await answers(path))
    throw new SidecarError('socket_in_use', `somebody listens on ${path} already`, { hint: `ss -xlp | grep ${path}` })
  await rm(path)
}

const listening = async (server: Server, place: Place): Promise<void> => {
  try {
    if ('path' in place) server.listen(place.path)
    else server.listen(place.port, place.host)
    await once(server, 'listening')
  } catch (cause) {
    const inUse = (cause as NodeJS.ErrnoException).code === 'EADDRINUSE'
    const hint =
      'path' in place
        ? `is the directory there, and writable for whoever runs this? mkdir -p ${dirname(place.path)}`
        : inUse
          ? `who listens there: ss -tlnp sport = :${place.port}`
          : 'is it an address of this machine, and a port that this user may take?'
    const code = inUse ? 'socket_in_use' : 'cannot_listen'
    throw new SidecarError(code, `cannot listen on ${placeText(place)}: ${messageOf(cause)}`, { cause, hint })
  }
}

/**
 * @param socketMode of a unix socket's file: who may connect
 * @returns where it listens, with the port that was free
 */
export const listenAt = async (server: Server, place: Place, socketMode: number): Promise<Place> => {
  if ('path' in place) {
    await clearStale(place.path)
    // Nobody else may connect between its creation and its mode.
    const umask = process.umask(0o177)
    try {
      await listening(server, place)
    } finally {
      process.umask(umask)
    }
    await chmod(place.path, socketMode)
    return place
  }
  await listening(server, place)
  return { host: place.host, port: (server.address() as AddressInfo).port }
}
