// Package devstack runs PostgreSQL, Redis and NATS JetStream on this machine
// for development, tests and the demo: on loopback only, on ports and with
// passwords of their own, in one private folder, and never longer than the
// process that started them.
//
// Start brings up all three. StartPostgres, StartRedis and StartNATS bring up
// one, for tests that take a server away and give it back. PostgreSQL and
// Redis are programs of the machine; NATS runs inside the calling process.
package devstack
