// Runs kinesalite, a server of Kinesis's protocol, on this machine only.
//
//   node server.js FOLDER PORT [CONTROL]
//
// FOLDER has kinesalite in its node_modules. CONTROL is a JSON file that is read at each request, for tests:
// "clock" moves the server's clock by so many milliseconds, "throttle" refuses GetRecords. The signal SIGUSR2 makes
// the server go away, with what it has in memory, and come back.
const fs = require('fs')
const http = require('http')
const path = require('path')

const [folder, port, control] = process.argv.slice(2)
const kinesalite = name => require(path.join(path.resolve(folder), 'node_modules', 'kinesalite', name))
const db = kinesalite('db')
let told = {}

// A client that goes away in mid-request would end the server.
process.on('uncaughtException', error => console.error(error.message))

const realNow = Date.now
Date.now = () => realNow() + (told.clock || 0)

function wrapped(action, around) {
    const real = kinesalite(`actions/${action}`)
    require.cache[require.resolve(path.join(path.resolve(folder), 'node_modules/kinesalite/actions', action))]
        .exports = (store, data, done) => around(real, store, data, done)
}

wrapped('getRecords', (real, store, data, done) => {
    if (told.throttle) {
        fs.appendFileSync(`${control}.throttled`, '.') // a test waits for it
        return done(db.clientError('ProvisionedThroughputExceededException', 'Rate exceeded for shard'))
    }
    real(store, data, done)
})

// For a time after the last record of a shard kinesalite would never answer: then the place is its end.
wrapped('getShardIterator', (real, store, data, done) => {
    if (data.ShardIteratorType !== 'AT_TIMESTAMP') return real(store, data, done)
    const shard = db.resolveShardId(data.ShardId).shardIx
    const keys = {gt: db.shardIxToHex(shard), lt: db.shardIxToHex(shard + 1)}
    db.lazy(store.getStreamDb(data.StreamName).createReadStream(keys), done)
        .filter(item => item.value.ApproximateArrivalTimestamp >= data.Timestamp)
        .join(found => {
            if (found.length) return real(store, data, done)
            const {Timestamp, ...rest} = data
            real(store, {...rest, ShardIteratorType: 'LATEST'}, done)
        })
})

const server = kinesalite('')({createStreamMs: 20, deleteStreamMs: 20, updateStreamMs: 20, shardLimit: 100})
server.prependListener('request', (_, response) => {
    if (control && fs.existsSync(control)) told = JSON.parse(fs.readFileSync(control, 'utf8'))
    response.setHeader('Date', new Date(Date.now()).toUTCString())
})
const begin = () => server.listen(Number(port), '127.0.0.1')
process.on('SIGUSR2', () => {
    if (!server.listening) return begin()
    http.Server.prototype.close.call(server) // kinesalite's own would forget the streams
    server.closeAllConnections()
})
setInterval(() => {}, 60_000) // nothing else keeps it alive while it is away
begin()
