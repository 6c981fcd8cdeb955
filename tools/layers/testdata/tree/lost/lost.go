// Package lost is in no layer.
package lost
