// Command audit keeps a verifiable log of every tenant's events.
package main

import (
	"github.com/fulcrum-io/fulcrum/pkg/service"
	"github.com/fulcrum-io/fulcrum/services/audit/app"
)

func main() { service.Main("audit", app.Run) }
