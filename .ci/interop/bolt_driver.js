// The official JavaScript driver of Neo4j, by neo4j://, against our coordinators and instances: managed writes go to
// MAIN and reads to replicas, MAIN is killed, and the driver goes on unaided.
//
// usage: node bolt_driver.js PATH-OF-firedrill    (NODE_PATH names the folder of neo4j-driver)
// exit: 0 it works, 1 it does not, 77 the driver is not installed
'use strict'
const { execFileSync, spawn } = require('child_process')
const dns = require('dns')
const fs = require('fs')
const net = require('net')
const os = require('os')
const path = require('path')

let neo4j
try {
  neo4j = require('neo4j-driver')
} catch {
  console.log('the neo4j-driver package is not installed: npm install neo4j-driver')
  process.exit(77)
}

const APPEND = 'MERGE (n {id: $id}) SET n.items = coalesce(n.items, []) + [$value]'
const READ = 'MATCH (n {id: $id}) RETURN n.value, n.items'
const program = process.argv[2]

function isFree (network) {
  return new Promise(resolve => {
    const server = net.createServer()
    server.once('error', () => resolve(false))
    server.listen(32768, `127.${network}.255.254`, () => server.close(() => resolve(true)))
  })
}

async function main () {
  let network = 100
  while (!await isFree(network)) network++
  const command = ['node', '--of', 'memgraph/main-killed', '--network', String(network)]
  const listed = execFileSync(program, command, { encoding: 'utf8' }).trim().split('\n')
  const hosts = Object.fromEntries(listed.map(line => [line.split(' ')[0], line.split(' ')[1].split(':')[0]]))
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'firedrill-interop-'))
  const processes = {}
  for (const name of Object.keys(hosts)) {
    const log = fs.openSync(path.join(folder, `${name}.log`), 'a')
    processes[name] = spawn(program, [...command, '--name', name, '--data', path.join(folder, name)],
      { stdio: ['ignore', 'ignore', log] })
  }
  // The names that routing tables hold, as the DNS of a real deployment would tell them.
  const lookup = dns.lookup
  dns.lookup = (host, options, callback) => {
    const name = host.replace('.example.com', '')
    if (!(name in hosts)) return lookup(host, options, callback)
    if (typeof options === 'function') [options, callback] = [{}, options]
    if (options.all) callback(null, [{ address: hosts[name], family: 4 }])
    else callback(null, hosts[name], 4)
  }
  try {
    return await drill(hosts, processes)
  } finally {
    for (const child of Object.values(processes)) child.kill('SIGKILL')
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

async function eventually (what, attempt) {
  const end = Date.now() + 60000
  let last
  while (Date.now() < end) {
    try {
      const result = await attempt()
      if (result) return result
    } catch (error) {
      last = error
    }
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  throw new Error(`within 60 s there was no ${what} (${last})`)
}

async function drill (hosts, processes) {
  const driver = neo4j.driver('neo4j://coordinator-1.example.com:7687', neo4j.auth.basic('user', 'password'),
    { disableLosslessIntegers: true })
  const acknowledged = []
  const servers = { write: new Set(), read: new Set() }
  const nameOf = address => {
    const host = address.replace(/:\d+$/, '')
    return Object.keys(hosts).find(name => hosts[name] === host || host.startsWith(`${name}.`))
  }
  const managed = async (mode, query, parameters) => {
    const session = driver.session({ database: 'memgraph' })
    try {
      const work = transaction => transaction.run(query, parameters)
      const result = await (mode === 'write' ? session.executeWrite(work) : session.executeRead(work))
      servers[mode].add(nameOf(result.summary.server.address))
      return result.records
    } finally {
      await session.close()
    }
  }
  const write = async value => {
    await managed('write', APPEND, { id: neo4j.int(1), value: neo4j.int(value) })
    acknowledged.push(value)
    return true
  }
  const items = async () => (await managed('read', READ, { id: neo4j.int(1) }))[0].get('n.items')

  await eventually('first write', () => write(0))
  for (let value = 1; value < 50; value++) await write(value)
  const before = new Set(servers.write)
  for (let i = 0; i < 20; i++) await items()
  if (before.size !== 1 || [...before].some(name => servers.read.has(name))) {
    throw new Error(`writes went to ${[...servers.write]}, reads to ${[...servers.read]}`)
  }
  console.log(`writes to MAIN ${[...before]}, reads from ${[...servers.read].sort()}`)

  const [main] = before
  processes[main].kill('SIGKILL')
  delete processes[main]
  const killed = Date.now()
  await write(50)
  console.log(`${main} killed; the managed write that met it returned after ${((Date.now() - killed) / 1000).toFixed(2)} s`)
  for (let value = 51; value < 100; value++) await write(value)
  const seen = await eventually('read of everything', async () => {
    const found = await items()
    return found !== null && found.length >= acknowledged.length ? found : null
  })
  const lost = acknowledged.filter(value => !seen.includes(value))
  const news = [...servers.write].filter(name => !before.has(name))
  console.log(`new MAIN ${news}; ${acknowledged.length} writes acknowledged, ${lost.length} lost`)
  await driver.close()
  return lost.length > 0 || news.length === 0 ? 1 : 0
}

main().then(code => process.exit(code), error => {
  console.log(`FAILED: ${error}`)
  process.exit(1)
})
