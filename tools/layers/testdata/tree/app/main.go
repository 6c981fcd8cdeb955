// Command app breaks one rule: it may know wire alone.
package main

import (
	"fmt"

	"example.com/tree/core/route"
)

func main() { fmt.Println(route.Name) }
