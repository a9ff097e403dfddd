// Functions for host and device alike.
#pragma once

#ifdef __CUDACC__
#define COMPVAE_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define COMPVAE_HOST_DEVICE inline
#endif
