package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"time"
)

// packed is one file of an archive.
type packed struct {
	name    string
	mode    fs.FileMode
	content []byte
}

// epoch is when every file of every archive was made: the first moment that a zip can state.
var epoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// pack makes the archive that a system's users expect, below one folder, and says how its name ends.
func pack(system, folder string, files []packed) (archive []byte, suffix string, err error) {
	var out bytes.Buffer
	if system == "windows" {
		err = packZip(&out, folder, files)
		suffix = ".zip"
	} else {
		err = packTar(&out, folder, files)
		suffix = ".tar.gz"
	}
	if err != nil {
		return nil, "", fmt.Errorf("pack %s: %w", folder+suffix, err)
	}
	return out.Bytes(), suffix, nil
}

func packZip(out *bytes.Buffer, folder string, files []packed) error {
	writer := zip.NewWriter(out)
	for _, file := range files {
		header := &zip.FileHeader{Name: folder + "/" + file.name, Method: zip.Deflate, Modified: epoch}
		header.SetMode(file.mode)
		entry, err := writer.CreateHeader(header)
		if err != nil {
			return err
		}
		if _, err := entry.Write(file.content); err != nil {
			return err
		}
	}
	return writer.Close()
}

func packTar(out *bytes.Buffer, folder string, files []packed) error {
	zipped, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		return err
	}
	writer := tar.NewWriter(zipped)
	for _, file := range files {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: folder + "/" + file.name, Mode: int64(file.mode),
			Size: int64(len(file.content)), ModTime: epoch, Format: tar.FormatUSTAR}
		if err := writer.WriteHeader(header); err != nil {
			return err
		}
		if _, err := writer.Write(file.content); err != nil {
			return err
		}
	}
	if err := writer.Close(); err != nil {
		return err
	}
	return zipped.Close()
}
