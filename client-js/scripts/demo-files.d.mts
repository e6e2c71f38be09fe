export const FOLDER: string;
export const files: () => Promise<{ [name: string]: string }>;
