'use strict';
// The codecs that kafkajs leaves to its users, JavaScript, WebAssembly or shipped ready: nothing is compiled.

const { CompressionCodecs, CompressionTypes } = require('kafkajs');
const snappy = require('kafkajs-snappy');
const lz4 = require('lz4-napi');
const zstd = require('@bokuweb/zstd-wasm');

const ZSTD_LEVEL = 3;
let loaded;

function install() {
  CompressionCodecs[CompressionTypes.Snappy] = snappy;
  CompressionCodecs[CompressionTypes.LZ4] = () => ({
    async compress(encoder) {
      return lz4.compressFrame(encoder.buffer);
    },
    async decompress(buffer) {
      return lz4.decompressFrame(buffer);
    },
  });
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    async compress(encoder) {
      await (loaded ??= zstd.init());
      return Buffer.from(zstd.compress(encoder.buffer, ZSTD_LEVEL));
    },
    async decompress(buffer) {
      await (loaded ??= zstd.init());
      return Buffer.from(zstd.decompress(buffer));
    },
  });
}

module.exports = {
  install,
  types: {
    none: CompressionTypes.None,
    gzip: CompressionTypes.GZIP,
    snappy: CompressionTypes.Snappy,
    lz4: CompressionTypes.LZ4,
    zstd: CompressionTypes.ZSTD,
  },
};
