package main

import (
	"archive/zip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// stamp is every entry's time, the earliest that the format can hold.
var stamp = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// writeZip packs files of dir, in their order, and gives the zip's size in
// bytes. Modes are stored as Unix ones: on plans where the host does not set
// the x bit itself it has to come with the zip, and an entry of mode 0 cannot
// be read there at all (azure-functions-host issue 11528).
func writeZip(target, dir string, files []string) (int64, error) {
	temporary := target + ".tmp"
	out, err := os.Create(temporary)
	if err != nil {
		return 0, err
	}
	defer os.Remove(temporary)
	defer out.Close()
	z := zip.NewWriter(out)
	for _, name := range files {
		if err := addFile(z, dir, name); err != nil {
			return 0, fmt.Errorf("zip %s: %w", name, err)
		}
	}
	if err := z.Close(); err != nil {
		return 0, err
	}
	info, err := out.Stat()
	if err != nil {
		return 0, err
	}
	if err := out.Close(); err != nil {
		return 0, err
	}
	return info.Size(), os.Rename(temporary, target)
}

func addFile(z *zip.Writer, dir, name string) error {
	header := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: stamp}
	header.SetMode(0o644)
	if name == executable {
		header.SetMode(0o755)
	}
	entry, err := z.CreateHeader(header)
	if err != nil {
		return err
	}
	file, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(entry, file)
	return err
}
