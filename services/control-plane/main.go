// Command control-plane keeps the configuration that the data plane enforces.
package main

import (
	"github.com/fulcrum-io/fulcrum/pkg/service"
	"github.com/fulcrum-io/fulcrum/services/control-plane/app"
)

func main() { service.Main("control-plane", app.Run) }
