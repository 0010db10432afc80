// Command budget keeps the ledger of what may still be spent.
package main

import (
	"github.com/fulcrum-io/fulcrum/pkg/service"
	"github.com/fulcrum-io/fulcrum/services/budget/app"
)

func main() { service.Main("budget", app.Run) }
