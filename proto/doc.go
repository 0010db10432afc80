// Package proto holds the wire contract as .proto files under fulcrum/, and
// the Go that buf generates from them under gen/. It has no code of its own,
// only the tests that hold the two to the published contract.
package proto
